"""Guards CONTRACT §4 pulls: what a failure means, and whether and when the pull is taken up again."""

from __future__ import annotations

import pytest

from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    DiskFull,
    EngineDown,
    EngineRefused,
    ModelNotFound,
    RegistryError,
    StoreNotWritable,
)
from arasul_supervisor.ollama.pull_errors import (
    DamagedPart,
    DigestMismatch,
    RegistryTrouble,
    TooManyRequests,
    pull_error,
)
from arasul_supervisor.ollama.pulls.retry import PullPaused, RetryPolicy, Setbacks, wait_before_attempt

POLICY = RetryPolicy(
    base_s=1.0, cap_s=3.0, patience_s=100.0, first_patience_s=10.0, first_attempts=2, engine_attempts=4
)


def wait(
    error: ArasulError,
    *,
    n_fruitless: int = 1,
    fruitless_s: float = 0.0,
    has_bytes: bool = False,
    has_answered: bool = False,
    n_engine_failures: int = 0,
    n_mismatches: int = 0,
    host: str = "127.0.0.1:5000",
) -> float | None:
    setbacks = Setbacks(n_fruitless, fruitless_s, has_bytes, has_answered, n_engine_failures, n_mismatches)
    return wait_before_attempt(error, setbacks, POLICY, host=host)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pull model manifest: file does not exist", ModelNotFound),
        ("write /s/blobs/sha256-ab-partial: no space left on device", DiskFull),
        ("open /s/blobs/sha256-ab-partial-0: read-only file system", StoreNotWritable),
        ("open /s/blobs/sha256-ab-partial-0: permission denied", StoreNotWritable),
        ("invalid model name", BadInput),
        ("pull model manifest: Get: tls: first record does not look like a TLS handshake", RegistryError),
        ("http: no Location header in response", RegistryError),
        ("pull model manifest: 412: this model requires a newer version of Ollama", RegistryError),
        ("pull model manifest: 403: forbidden", RegistryError),
        ("pull model manifest: 500: boom", RegistryTrouble),
        ("pull model manifest: 429: slow down", TooManyRequests),
        ("pull model manifest: Get \"https://r/v2/\": dial tcp: lookup r: no such host", RegistryTrouble),
        ("digest mismatch, file must be downloaded again: want sha256:a, got sha256:b", DigestMismatch),
        ("max retries exceeded: EOF", RegistryTrouble),
        ("context deadline exceeded", RegistryTrouble),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", RegistryError),
        ("EOF", DamagedPart),
    ],
)  # fmt: skip
def test_a_failed_pull_is_told_by_its_meaning(text: str, kind: type[ArasulError]) -> None:
    assert type(pull_error(text, "tiny")) is kind


def test_a_damaged_part_file_is_told_with_its_cure() -> None:
    assert "purge=true" in pull_error("unexpected EOF", "tiny").sentence


@pytest.mark.parametrize(
    "error",
    [ModelNotFound(), BadInput(), RegistryError(), ArasulError()],
    ids=lambda error: error.code,
)
def test_what_no_retry_helps_fails_at_once(error: ArasulError) -> None:
    assert wait(error, n_fruitless=1, has_bytes=True) is None


def test_each_wait_doubles_up_to_its_cap() -> None:
    waits = [wait(RegistryTrouble(), n_fruitless=n, has_bytes=True) for n in range(5)]

    assert waits == [1.0, 1.0, 2.0, 3.0, 3.0]  # 1, 1·2⁰, 1·2¹, min(3, 1·2²)


def test_a_pull_that_had_bytes_is_not_given_up_before_its_patience_is_over() -> None:
    waits = [
        wait(RegistryTrouble(), n_fruitless=50, fruitless_s=since_s, has_bytes=True)
        for since_s in (99.0, 100.0)
    ]

    assert waits == [3.0, None]


def test_a_well_known_registry_is_waited_for_before_the_first_byte_too() -> None:
    waits = [
        wait(RegistryTrouble(), n_fruitless=50, fruitless_s=since_s, host="registry.ollama.ai")
        for since_s in (9.0, 10.0)
    ]

    assert waits == [3.0, None]


def test_a_registry_that_has_shown_the_manifest_is_waited_for_like_a_well_known_one() -> None:
    waits = [
        wait(RegistryTrouble(), n_fruitless=50, fruitless_s=since_s, has_answered=True)
        for since_s in (9.0, 10.0)
    ]

    assert waits == [3.0, None]


def test_a_registry_that_never_sent_a_byte_is_given_up_after_a_few_attempts() -> None:
    assert [wait(RegistryTrouble(), n_fruitless=n) for n in (1, 2)] == [1.0, None]


@pytest.mark.parametrize("error", [EngineDown(), EngineRefused()], ids=lambda error: error.code)
def test_an_engine_that_fails_over_a_pull_again_and_again_ends_it(error: ArasulError) -> None:
    assert [wait(error, n_fruitless=n, has_bytes=True) for n in (3, 4)] == [3.0, None]


def test_an_engine_that_dies_over_a_pull_and_loses_what_it_brought_ends_it() -> None:
    waits = [wait(EngineDown(), n_fruitless=0, n_engine_failures=n, has_bytes=True) for n in (29, 30)]

    assert waits == [1.0, None]


def test_wrong_bytes_are_fetched_anew_only_a_few_times() -> None:
    waits = [wait(DigestMismatch(), n_mismatches=n, has_bytes=True) for n in (1, 2, 3)]

    assert waits == [1.0, 1.0, None]


def test_a_pause_is_nobodys_fault() -> None:
    assert wait(PullPaused(), n_fruitless=99) == 0.0
