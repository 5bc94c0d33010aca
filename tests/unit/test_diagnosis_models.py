"""Guards DESIGN §9: what Ollama lists, and what it does not, is called sick only when its runner rests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Kind
from tests.unit.healing_looks import (
    ASKED_29,
    ENGINE,
    LISTED,
    PINNED,
    PROCESS,
    RUNNER,
    certain,
    every_two_seconds,
    said,
    seen,
    verdicts,
)


@pytest.mark.parametrize(
    ("for_s", "unread_bytes", "is_stuck"),
    [(58.0, 0, False), (60.0, 0, True), (3600.0, 60_000, False), (3600.0, None, False)],
    ids=[
        "for less than a minute",
        "for a minute",
        "a client does not read",
        "nobody looked whether they read",
    ],
)
def test_a_model_that_stays_past_its_time_without_a_request_is_stopping_for_ever(
    for_s: float, unread_bytes: int | None, is_stuck: bool
) -> None:
    past = replace(LISTED, expires_in_s={"a:latest": -1.0})
    looks = every_two_seconds(for_s, RUNNER, models=past, engine=replace(ENGINE, unread_bytes=unread_bytes))

    assert verdicts(looks) == (certain(Kind.STOPPING_STUCK) if is_stuck else [])


def test_a_model_that_answers_past_its_time_is_well() -> None:
    past, engine = replace(LISTED, expires_in_s={"a:latest": -1.0}), replace(ENGINE, unread_bytes=0)
    looks = [
        seen(
            at,
            replace(ASKED_29, process=replace(PROCESS, cpu_ticks=int(100 * at))),
            models=past,
            engine=engine,
        )
        for at in map(float, range(0, 900, 2))
    ]

    assert verdicts(looks) == []


def test_a_runner_that_ollama_does_not_list_is_leaked() -> None:
    nothing = replace(LISTED, loaded=(), expires_in_s={}, blobs={})

    assert verdicts(every_two_seconds(62.0, RUNNER, models=nothing)) == certain(Kind.RUNNER_LEAKED)


def test_a_runner_that_a_debugger_holds_is_left_to_it() -> None:
    nothing = replace(LISTED, loaded=(), expires_in_s={}, blobs={})
    held = replace(RUNNER, process=replace(PROCESS, state="t"))

    assert verdicts(every_two_seconds(62.0, held, models=nothing)) == []


def test_the_elder_of_two_runners_with_the_same_weights_is_leaked() -> None:
    younger = replace(RUNNER, process=replace(PROCESS, identity=(8, 200)))

    (verdict,) = said(every_two_seconds(62.0, RUNNER, younger, models=PINNED))

    assert (verdict.kind, verdict.runner) == (Kind.RUNNER_LEAKED, (7, 100))


def test_a_model_that_is_pinned_and_gone_from_the_disk_is_found() -> None:
    deleted = replace(PINNED, blobs={}, missing=frozenset({"a:latest"}), installed_blobs=frozenset())

    assert verdicts(every_two_seconds(62.0, RUNNER, models=deleted)) == certain(Kind.MODEL_DELETED)


def test_a_model_that_is_gone_from_the_disk_and_will_be_unloaded_is_left_to_ollama() -> None:
    deleted = replace(LISTED, blobs={}, missing=frozenset({"a:latest"}), installed_blobs=frozenset())

    assert verdicts(every_two_seconds(62.0, RUNNER, models=deleted)) == []
