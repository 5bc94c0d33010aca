"""Guards CONTRACT §4: three retries after 0, 0.5 and 1 s, inside the bound, and only where the failure may pass."""

from __future__ import annotations

import pytest

from arasul_supervisor.ollama.retry import NO_RETRIES, RETRY_WAITS_S, wait_before_retry


@pytest.mark.parametrize("status", [None, 500, 502, 503, 504])
def test_the_waits_are_those_of_the_contract(status: int | None) -> None:
    waits = [wait_before_retry(RETRY_WAITS_S, n, status=status, left_s=10.0) for n in range(4)]

    assert waits == [0.0, 0.5, 1.0, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 501])
def test_a_refusal_that_stays_is_not_asked_again(status: int) -> None:
    assert wait_before_retry(RETRY_WAITS_S, 0, status=status, left_s=10.0) is None


def test_a_wait_that_does_not_fit_into_the_bound_is_no_retry() -> None:
    assert wait_before_retry(RETRY_WAITS_S, 1, status=500, left_s=0.4) is None


def test_a_call_without_a_bound_is_retried_all_the_same() -> None:
    assert wait_before_retry(RETRY_WAITS_S, 2, status=500, left_s=None) == 1.0


def test_a_call_that_must_not_be_repeated_is_not() -> None:
    assert wait_before_retry(NO_RETRIES, 0, status=None, left_s=10.0) is None
