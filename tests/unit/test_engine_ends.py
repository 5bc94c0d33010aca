"""Guards "every crash becomes one record": what an end of the engine leaves in the book, and what is loaded again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.healing.aftermath.engine_ends import EngineEnds
from arasul_supervisor.healing.aftermath.loaded_at_death import AtDeath, LoadedThen
from arasul_supervisor.healing.aftermath.restoring import RestoreReport
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.supervision.snapshot import ExitReport, Failure, Snapshot, State, Wanted
from tests.unit.healing_desk import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from arasul_supervisor.healing.aftermath.poison import Conviction, Ending

LOADED = (LoadedThen("a", "sha256:a"),)


class LoadedThenOnly:
    """What lay in memory is always the same."""

    def at_death(self, generation: int, *, died_mono: float) -> AtDeath:
        return AtDeath(loaded=LOADED)


class Judges:
    """Notes what it is asked to judge, and convicts by the word of the test."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.sentenced: list[tuple[object, int]] = []
        self.conviction: object = None

    def note(self, ending: Ending, *, died_mono: float) -> object:
        self.endings.append(ending)
        return self.conviction

    def sentence(self, found: Conviction, *, generation: int) -> None:
        self.sentenced.append((found, generation))


class Begun:
    """Notes what is to be loaded again."""

    def __init__(self) -> None:
        self.rounds: list[tuple[list[str], int]] = []

    def begin(self, models: Sequence[LoadedThen], *, died_generation: int) -> None:
        self.rounds.append(([model.name for model in models], died_generation))


class Life(Desk):
    """An engine whose snapshots the test publishes."""

    def __init__(self) -> None:
        super().__init__()
        self.judges, self.restoring = Judges(), Begun()
        self.ends = EngineEnds(
            self.book,
            loaded=LoadedThenOnly(),  # type: ignore[arg-type]  # a stand-in
            crashes=self.judges,  # type: ignore[arg-type]  # a stand-in
            sentencing=self.judges,  # type: ignore[arg-type]  # a stand-in
            restoring=self.restoring,  # type: ignore[arg-type]  # a stand-in
            tail=lambda generation: (f"a line of {generation}",),
            figures=lambda: {"seen_at": self.clock.now},
            clock=self.clock,
        )
        self.seen = Snapshot(state=State.STARTING, wanted=Wanted.UP, generation=1)

    def become(self, **changes: Any) -> None:  # Any: fields of the snapshot
        self.seen = replace(self.seen, **changes)
        self.ends.follow(self.seen)

    def answer(self) -> None:
        self.become(state=State.RUNNING, ready_mono=self.clock.now)

    def end(self, **report: Any) -> None:  # Any: fields of the report
        """The present generation ends, by itself unless the report says otherwise; the next is being started."""
        ended = ExitReport(self.seen.generation, 1, None, "exit code 1", self.clock.now, 5.0)
        self.become(state=State.BACKOFF, last_exit=replace(ended, **report))
        self.become(state=State.STARTING, generation=self.seen.generation + 1, ready_mono=None)

    def fail_to_start(self, sentence: str = "Port 11434 is taken.") -> None:
        self.seen = replace(self.seen, failure=Failure("port_in_use", sentence))
        self.end()


@pytest.fixture
async def life() -> AsyncIterator[Life]:
    opened = Life()
    yield opened
    await opened.book.settle()


async def test_a_crash_is_an_incident_that_is_over_when_the_next_generation_answers(life: Life) -> None:
    life.answer()
    life.end()
    life.clock.now += 3.25
    life.answer()

    assert life.results() == [("engine_crashed", "cured")]
    assert (life.only.downtime_s, life.only.detail) == (3.25, "Generation 2 answers.")


async def test_a_crash_keeps_its_last_lines_when_the_next_start_fails_before_they_are_told(
    life: Life,
) -> None:
    life.answer()
    life.end()
    life.fail_to_start()

    crash = life.book.latest(Kind.ENGINE_CRASHED, None)
    assert crash is not None
    assert crash.log_tail == ("a line of 1",)


async def test_a_crash_keeps_its_last_lines_when_it_is_over_before_they_are_told(life: Life) -> None:
    life.answer()
    life.end()
    life.answer()

    assert life.only.log_tail == ("a line of 1",)


async def test_a_crash_is_told_with_its_reason(life: Life) -> None:
    life.answer()
    life.end(reason="ended by SIGSEGV")

    assert (life.only.evidence, life.only.generation) == ("Ended by SIGSEGV.", 1)


async def test_a_crash_has_the_witnesses_of_its_instant_and_of_its_end(life: Life) -> None:
    life.answer()
    life.end()
    life.clock.now += 3.0
    life.answer()

    assert (life.only.witnesses_before, life.only.witnesses_after) == (
        {"seen_at": 1000.0},
        {"seen_at": 1003.0},
    )


async def test_the_same_snapshot_again_is_no_second_crash(life: Life) -> None:
    life.answer()
    life.end()
    life.become()

    assert len(life.incidents) == 1


async def test_last_lines_that_come_later_are_added(life: Life) -> None:
    life.answer()
    life.end()
    assert life.seen.last_exit is not None
    life.become(last_exit=replace(life.seen.last_exit, log_tail=("panic: oh",)))

    assert life.only.log_tail == ("panic: oh",)


async def test_an_engine_that_answers_no_heartbeat_yet_is_not_back(life: Life) -> None:
    life.answer()
    life.end()
    life.become(state=State.RUNNING, ready_mono=life.clock.now, missed_beats=3)

    assert life.results() == [("engine_crashed", "open")]


async def test_an_end_that_was_asked_for_is_no_incident(life: Life) -> None:
    life.answer()
    life.end(was_asked=True)

    assert life.incidents == []


@pytest.mark.parametrize(
    ("lived_s", "reason"), [(10.5, "exit code 1"), (5.0, "ended by SIGSEGV")], ids=["later", "another"]
)
async def test_two_crashes_with_a_while_or_a_difference_between_are_two_incidents(
    life: Life, lived_s: float, reason: str
) -> None:
    life.answer()
    life.end()
    life.answer()
    life.clock.now += lived_s
    life.end(reason=reason)

    assert life.results() == [("engine_crashed", "cured"), ("engine_crashed", "open")]


async def test_an_engine_that_gets_ready_and_dies_again_and_again_is_one_incident_with_a_count(
    life: Life,
) -> None:
    for _ in range(30):
        life.answer()
        life.clock.now += 9.0
        life.end()

    assert (life.only.kind, life.only.count, life.only.last_at) == ("engine_crashed", 30, life.clock.now)


async def test_what_comes_back_after_such_a_crash_is_told_in_that_one_incident(life: Life) -> None:
    for generation in (1, 2):
        life.answer()
        life.end()
        life.ends.told_restored(RestoreReport(generation, ("a",)))

    assert [step.detail for step in life.only.steps] == ["Loaded again: a."] * 2


async def test_thirty_starts_that_fail_are_one_incident_with_a_count(life: Life) -> None:
    for _ in range(30):
        life.clock.now += 10
        life.fail_to_start()

    assert (life.only.kind, life.only.count, life.only.result) == ("start_failed", 30, "open")
    assert life.only.last_at == life.clock.now


async def test_after_failed_starts_the_downtime_is_all_of_the_time(life: Life) -> None:
    for _ in range(3):
        life.fail_to_start()
        life.clock.now += 10
    life.answer()

    assert (life.only.result, life.only.downtime_s) == ("cured", 30.0)


async def test_a_failed_start_says_what_to_do(life: Life) -> None:
    life.fail_to_start("Port 11434 is held by pid 812. Stop that service.")

    assert life.only.evidence == "Exit code 1. Port 11434 is held by pid 812. Stop that service."


async def test_what_is_reason_and_failure_at_once_is_said_once(life: Life) -> None:
    life.seen = replace(life.seen, failure=Failure("no_binary", "No ollama was found."))
    life.end(reason="No ollama was found.")

    assert life.only.evidence == "No ollama was found."


async def test_a_crash_whose_next_start_fails_ends_with_both_when_it_answers(life: Life) -> None:
    life.answer()
    life.end()
    life.fail_to_start()
    life.clock.now += 7
    life.answer()

    assert life.results() == [("engine_crashed", "cured"), ("start_failed", "cured")]
    assert [incident.downtime_s for incident in life.incidents] == [7.0, 7.0]


async def test_a_stop_between_two_starts_ends_the_incident_as_failed(life: Life) -> None:
    life.fail_to_start()
    life.clock.now += 4
    life.become(state=State.STOPPED, wanted=Wanted.DOWN)

    assert (life.only.result, life.only.downtime_s) == ("failed", 4.0)
    assert "stopped on request" in life.only.detail


async def test_after_such_a_stop_the_time_until_the_start_is_no_downtime(life: Life) -> None:
    life.fail_to_start()
    life.become(state=State.STOPPED, wanted=Wanted.DOWN)
    life.clock.now += 3600
    life.become(state=State.STARTING, wanted=Wanted.UP)
    life.fail_to_start()
    life.clock.now += 2
    life.answer()

    assert [incident.downtime_s for incident in life.incidents] == [0.0, 2.0]


async def test_a_stop_that_is_under_way_ends_nothing_yet(life: Life) -> None:
    life.fail_to_start()
    life.become(state=State.STOPPING, wanted=Wanted.DOWN)

    assert life.only.is_open


async def test_a_policy_that_gives_up_ends_the_incident_as_given_up(life: Life) -> None:
    life.fail_to_start()
    life.become(state=State.FATAL, gave_up=True, failure=None, decision="it crashed five times")

    assert (life.only.result, life.only.detail) == (
        "gave_up",
        "Ollama is not started again: it crashed five times.",
    )


async def test_a_tree_that_nothing_ends_leaves_the_incident_open(life: Life) -> None:
    life.answer()
    life.end()
    life.become(state=State.FATAL, decision="pid 7 survives SIGKILL")

    assert life.only.is_open


async def test_a_crash_has_what_was_loaded_come_back(life: Life) -> None:
    life.answer()
    life.end()

    assert life.restoring.rounds == [(["a"], 1)]


async def test_what_was_loaded_again_is_told_in_the_crash(life: Life) -> None:
    life.answer()
    life.end()
    life.answer()
    life.ends.told_restored(RestoreReport(1, ("a",)))

    assert [step.detail for step in life.only.steps] == ["Loaded again: a."]


async def test_what_comes_back_after_failed_starts_is_told_in_the_crash_before_them(life: Life) -> None:
    life.answer()
    life.end()
    life.fail_to_start()
    life.fail_to_start()
    life.answer()
    life.ends.told_restored(RestoreReport(3, ("a",)))

    assert [len(incident.steps) for incident in life.incidents] == [1, 0]


async def test_what_comes_back_when_the_record_is_gone_is_told_nowhere(life: Life) -> None:
    life.answer()
    life.ends.expect_restart(1, restored_in="20261129T081203Z-1")
    life.end(was_asked=True)

    life.ends.told_restored(RestoreReport(1, ("a",)))

    assert life.incidents == []


async def test_an_operators_restart_brings_nothing_back(life: Life) -> None:
    life.answer()
    life.end(was_asked=True)

    assert life.restoring.rounds == []


async def test_a_restart_that_heals_brings_back_what_was_loaded_and_tells_it_there(life: Life) -> None:
    life.answer()
    incident = life.book.open(Kind.ENGINE_FROZEN, what="It is frozen.", evidence="5 heartbeats missed.")
    life.ends.expect_restart(1, restored_in=incident)
    life.end(was_asked=True)
    life.ends.told_restored(RestoreReport(1, ("a",)))

    assert life.restoring.rounds == [(["a"], 1)]
    assert [(step.action, step.detail) for step in life.only.steps] == [(Cure.NONE.value, "Loaded again: a.")]


async def test_a_restart_for_want_of_memory_brings_nothing_back(life: Life) -> None:
    life.answer()
    life.ends.expect_restart(1, restored_in=None)
    life.end(was_asked=True)

    assert life.restoring.rounds == []


async def test_a_crash_in_the_middle_of_a_cure_is_a_crash(life: Life) -> None:
    life.answer()
    life.ends.expect_restart(1, restored_in=None)
    life.end()

    assert life.results() == [("engine_crashed", "open")]
    assert life.restoring.rounds == [(["a"], 1)]


async def test_a_cure_that_came_too_late_says_nothing_of_a_later_restart(life: Life) -> None:
    life.answer()
    life.end()
    life.ends.expect_restart(1, restored_in="a cure of generation 1")
    life.answer()
    life.end(was_asked=True)

    assert life.restoring.rounds == [(["a"], 1)]


async def test_an_expected_restart_that_was_a_crash_says_nothing_of_a_later_one(life: Life) -> None:
    life.answer()
    life.ends.expect_restart(1, restored_in="a cure of generation 1")
    life.end()
    life.answer()
    life.end(was_asked=True)

    assert life.restoring.rounds == [(["a"], 1)]


async def test_lines_are_read_only_of_an_end_that_a_model_may_have_caused(life: Life) -> None:
    life.answer()
    life.end(code=1)
    life.answer()
    life.end(code=None, signal=11)

    assert [tuple(ending.lines) for ending in life.judges.endings] == [(), ("a line of 2",)]


async def test_a_convicted_model_is_sentenced(life: Life) -> None:
    life.judges.conviction = "two crashes"
    life.answer()
    life.end(code=None, signal=11)

    assert life.judges.sentenced == [("two crashes", 1)]


async def test_an_end_that_was_asked_for_convicts_nobody(life: Life) -> None:
    life.judges.conviction = "two crashes"
    life.answer()
    life.end(was_asked=True)

    assert (life.judges.endings, life.judges.sentenced) == ([], [])
