"""Guards DESIGN §9: the engine and its scheduler are not called sick by one witness either."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind
from arasul_supervisor.healing.looking.witnesses import Answering, LogLook, Witness
from tests.unit.healing_looks import (
    ENGINE,
    FULL_QUEUE,
    OLD,
    PINNED,
    PROCESS,
    RUNNER,
    certain,
    every_two_seconds,
    seen,
    verdicts,
)

if TYPE_CHECKING:
    from arasul_supervisor.healing.looking.witnesses import EngineLook, RunnerLook


@pytest.mark.parametrize(
    ("engine", "for_s", "is_frozen"),
    [
        ({"state": "T"}, 14.0, False),
        ({"state": "T"}, 16.0, True),
        ({"state": "D"}, 16.0, True),
        ({"state": "S"}, 14.0, False),
        ({"state": "S"}, 16.0, True),
        ({"state": "t"}, 900.0, False),
        ({"state": "S", "is_runnable": True}, 900.0, False),
    ],
    ids=str,
)
def test_an_engine_is_frozen_when_it_neither_answers_nor_works(
    engine: dict[str, object], for_s: float, is_frozen: bool
) -> None:
    assert ENGINE.process is not None
    silent = replace(ENGINE, missed_beats=3, process=replace(ENGINE.process, **engine))  # type: ignore[arg-type]  # its fields

    assert verdicts(every_two_seconds(for_s, engine=silent)) == (
        certain(Kind.ENGINE_FROZEN) if is_frozen else []
    )


@pytest.mark.parametrize(
    ("ticks_a_look", "faults_a_look", "is_frozen"),
    [(200, 0, True), (100, 0, True), (90, 0, False), (200, 1, False)],
    ids=["a whole processor", "half of one", "less", "all, but swapped"],
)
def test_an_engine_that_runs_in_circles_has_a_processor_for_two_minutes(
    ticks_a_look: int, faults_a_look: int, is_frozen: bool
) -> None:
    assert ENGINE.process is not None
    process = replace(ENGINE.process, state="R", is_runnable=True)
    looks = [
        seen(
            2.0 * n,
            engine=replace(
                ENGINE,
                missed_beats=2 * n + 1,
                process=replace(process, cpu_ticks=ticks_a_look * n, major_faults=faults_a_look * n),
            ),
        )
        for n in range(61)
    ]

    assert verdicts(looks) == (certain(Kind.ENGINE_FROZEN) if is_frozen else [])


@pytest.mark.parametrize(
    ("log", "own_load", "for_s", "is_stuck"),
    [
        (FULL_QUEUE, None, 58.0, False),
        (FULL_QUEUE, None, 60.0, True),
        (LogLook(), None, 900.0, False),
        (LogLook(), "b:latest", 118.0, False),
        (LogLook(), "b:latest", 120.0, True),
    ],
    ids=[
        "for less than a minute",
        "a full queue",
        "nobody waits",
        "a load for less than its limit",
        "our load waits",
    ],
)
def test_a_scheduler_is_stuck_when_somebody_waits_and_nothing_works(
    log: LogLook, own_load: str | None, for_s: float, is_stuck: bool
) -> None:
    engine = replace(ENGINE, unread_bytes=0)
    looks = every_two_seconds(for_s, RUNNER, models=PINNED, engine=engine, log=log, own_load=own_load)

    assert verdicts(looks) == (certain(Kind.SCHEDULER_STUCK) if is_stuck else [])


@pytest.mark.parametrize("unread_bytes", [60_000, None], ids=["does not read", "may not read"])
def test_a_full_queue_behind_a_client_that_may_not_read_is_load(unread_bytes: int | None) -> None:
    engine = replace(ENGINE, unread_bytes=unread_bytes)

    assert verdicts(every_two_seconds(600.0, RUNNER, models=PINNED, engine=engine, log=FULL_QUEUE)) == []


def test_a_full_queue_before_a_runner_that_answers_is_load() -> None:
    busy = replace(RUNNER, connections=frozenset({5}), unread_bytes=1)

    assert verdicts(every_two_seconds(600.0, busy, log=FULL_QUEUE)) == []


@pytest.mark.parametrize(
    ("engine", "runners", "expected"),
    [
        (OLD, (RUNNER,), certain(Kind.LOAD_DIED)),
        (
            OLD,
            (RUNNER, replace(RUNNER, answering=Answering.LOADING, process=replace(PROCESS, identity=(8, 1)))),
            [],
        ),
        (ENGINE, (RUNNER,), []),
    ],
    ids=["beside a loaded model", "while another one loads", "not on 0.30"],
)
def test_deaths_without_end_are_a_load_that_died_where_nothing_loads(
    engine: EngineLook, runners: tuple[RunnerLook, ...], expected: list[tuple[Kind, Certainty]]
) -> None:
    dying = LogLook({"runner_died": (1, 1e9)})

    assert verdicts(every_two_seconds(14.0, *runners, models=PINNED, engine=engine, log=dying)) == expected


def test_deaths_while_the_runners_cannot_be_looked_at_are_no_load_that_died() -> None:
    dying = LogLook({"runner_died": (1, 1e9)})
    first, *others = every_two_seconds(14.0, RUNNER, models=PINNED, engine=OLD, log=dying)

    unread = [replace(look, runners=Witness(None, None, "/proc did not answer in time")) for look in others]

    assert verdicts([first, *unread]) == []
