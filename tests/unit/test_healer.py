"""Guards DESIGN §9: one task looks, writes each verdict and cure into one incident, and survives its own faults."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind, Verdict
from tests.api.raw import eventually
from tests.unit.healing_looks import BUSY, ENGINE, RUNNER
from tests.unit.healing_ward import DEEP, HOUR_S, LOST_GPU, STUCK, Ward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OTHER = Verdict(Kind.RUNNER_LEAKED, "The runner 8 leaks.", 1000.0, runner=(8, 1), model="b")
ENDLESS = replace(STUCK, kind=Kind.STOPPING_STUCK, evidence="It is never unloaded.")
DEAD = Verdict(Kind.RUNNERS_KEEP_DYING, "It dies and dies.", 1000.0, model="a")
FROZEN = replace(STUCK, kind=Kind.RUNNER_FROZEN, evidence="The runner 7 is frozen.")


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    opened = Ward()
    yield opened
    await opened.book.settle()


async def test_where_all_is_well_nothing_is_done_or_written(ward: Ward) -> None:
    ward.parts.runners = (RUNNER,)
    await ward.turns(10)

    assert (ward.parts.done, ward.incidents) == ([], [])


async def test_a_verdict_is_an_incident_and_its_cure_is_done(ward: Ward) -> None:
    await ward.turns(1, STUCK)

    assert ward.parts.done == [("runner_killed", "runner_stuck")]
    assert (ward.only.kind, ward.only.action, ward.only.result) == ("runner_stuck", "runner_killed", "open")
    assert (ward.only.evidence, ward.only.model, ward.only.generation) == (STUCK.evidence, "a", 1)


async def test_the_incident_has_the_log_and_the_witnesses_of_that_instant(ward: Ward) -> None:
    await ward.turns(1, STUCK)

    assert ward.only.log_tail == ("a line of 1",)
    assert (ward.only.witnesses_before["runner_pid"], ward.only.witnesses_after) == (7, {})


async def test_the_step_says_why(ward: Ward) -> None:
    await ward.turns(1, STUCK)

    assert [(step.action, step.detail) for step in ward.only.steps] == [("runner_killed", STUCK.evidence)]


async def test_what_later_looks_show_to_be_over_closes_the_incident(ward: Ward) -> None:
    await ward.turns(1, STUCK)
    ward.parts.end_the_runner()
    await ward.turns(2)

    assert (ward.only.result, ward.only.detail) == ("cured", "The runner 7 is gone.")
    assert ward.only.downtime_s == 6.0  # since 1000 s; the looks are at 1002, 1004 and 1006 s
    assert ward.only.witnesses_after["runners"] == 0


async def test_the_time_of_an_illness_that_kept_nobody_waiting_is_no_downtime(ward: Ward) -> None:
    ward.parts.runners = (RUNNER,)  # frozen at rest
    await ward.turns(1, FROZEN)
    ward.parts.end_the_runner()
    await ward.turns(2)

    assert (ward.only.result, ward.only.downtime_s) == ("cured", None)


async def test_a_runner_that_froze_in_a_request_kept_somebody_waiting(ward: Ward) -> None:
    await ward.turns(1, FROZEN)
    ward.parts.end_the_runner()
    await ward.turns(2)

    assert (ward.only.result, ward.only.downtime_s) == ("cured", 6.0)


async def test_an_engine_that_loads_nothing_any_more_kept_somebody_waiting(ward: Ward) -> None:
    ward.parts.runners = ()
    await ward.turns(1, DEEP)
    ward.parts.engine = replace(ENGINE, generation=2)
    await ward.turns(2)

    assert (ward.only.result, ward.only.downtime_s) == ("cured", 6.0)


async def test_what_is_only_suspected_is_neither_cured_nor_written(ward: Ward) -> None:
    await ward.turns(5, replace(STUCK, certainty=Certainty.SUSPECTED))

    assert (ward.parts.done, ward.incidents) == ([], [])


async def test_what_nothing_cures_is_noted_at_once(ward: Ward) -> None:
    await ward.turns(5, DEAD)

    assert ward.results() == [("runners_keep_dying", "noted")]
    assert ward.only.downtime_s is None


async def test_what_is_noted_again_within_the_hour_is_counted_in_the_same_incident(ward: Ward) -> None:
    await ward.turns(5, DEAD)
    await ward.turns(5)
    await ward.turns(5, DEAD)

    assert (ward.only.count, ward.only.result) == (2, "noted")
    assert ward.only.last_at == 1022.0  # the first of the last five looks


async def test_what_is_given_up_again_within_the_hour_is_counted_in_the_same_incident(ward: Ward) -> None:
    ward.parts.gpu, ward.parts.runners = LOST_GPU, ()
    await ward.turns(1, DEEP)
    await ward.turns(400, DEEP)  # it is taken up again after 600 s, and given up again

    told = [one for one in ward.incidents if one.kind == DEEP.kind.value]  # the GPU has one of its own
    assert [(one.count, one.result) for one in told] == [(2, "gave_up")]


async def test_what_is_noted_again_after_more_than_an_hour_is_another_incident(ward: Ward) -> None:
    await ward.turns(1, DEAD)
    await ward.turns(5)
    ward.clock.now += HOUR_S
    await ward.turns(1, DEAD)

    assert [incident.count for incident in ward.incidents] == [1, 1]


async def test_the_same_of_another_model_is_another_incident(ward: Ward) -> None:
    await ward.turns(1, DEAD, replace(DEAD, model="b"))

    assert [(incident.model, incident.count) for incident in ward.incidents] == [("a", 1), ("b", 1)]


async def test_what_was_cured_and_comes_again_is_another_incident(ward: Ward) -> None:
    await ward.turns(1, STUCK)
    ward.parts.end_the_runner()
    await ward.turns(2)
    ward.parts.runners = (BUSY,)
    await ward.turns(1, STUCK)

    assert ward.results() == [("runner_stuck", "cured"), ("runner_stuck", "open")]


async def test_a_given_up_incident_that_is_treated_again_can_still_be_cured(ward: Ward) -> None:
    ward.parts.gpu, ward.parts.runners = LOST_GPU, ()
    await ward.turns(1, DEEP)
    ward.parts.gpu = None
    await ward.turns(301, DEEP)
    ward.parts.engine = replace(ENGINE, generation=2)
    await ward.turns(2)

    assert (ward.only.count, ward.only.result) == (2, "cured")
    assert [step.action for step in ward.only.steps] == ["engine_restarting"]


async def test_a_restart_foresees_what_comes_back_and_where_that_is_told(ward: Ward) -> None:
    await ward.turns(1, DEEP)

    assert ward.parts.done == [("engine_restarting", "scheduler_stuck")]
    assert ward.parts.expected == [(1, ward.only.id)]


async def test_a_gentler_cure_foresees_no_restart(ward: Ward) -> None:
    await ward.turns(1, STUCK)

    assert ward.parts.expected == []


async def test_a_fault_in_one_cure_keeps_no_other_from_being_done(ward: Ward) -> None:
    ward.parts.cure_fault = RuntimeError("no hand")
    await ward.turns(1, OTHER, STUCK)

    assert sorted(ward.parts.done) == [("runner_killed", "runner_leaked"), ("runner_killed", "runner_stuck")]
    assert len(ward.parts.memory_turns) == 1


async def test_a_fault_in_a_cure_is_told_with_where_it_arose(ward: Ward) -> None:
    ward.parts.cure_fault = RuntimeError("no hand")
    await ward.turns(1, STUCK)

    (told,) = ward.told("healing_failed")
    assert "RuntimeError: no hand" in str(told)


async def test_a_case_whose_record_had_to_make_room_is_treated_on_under_another() -> None:
    ward = Ward(max_incidents=1)
    await ward.turns(1, ENDLESS)
    first = ward.only.id
    ward.book.open(Kind.MEMORY_LOW, what="Memory runs out.", evidence="It is short.")
    await ward.turns(7, ENDLESS)  # unloading has 10 s

    assert ward.parts.done == [("unloaded", "stopping_stuck"), ("runner_killed", "stopping_stuck")]
    assert (ward.only.kind, ward.only.id != first) == ("stopping_stuck", True)
    assert ward.told("healing_failed") == []
    await ward.book.settle()


async def test_the_end_of_a_case_whose_record_is_gone_is_told_and_over() -> None:
    ward = Ward(max_incidents=1)
    await ward.turns(1, STUCK)
    ward.book.open(Kind.MEMORY_LOW, what="Memory runs out.", evidence="It is short.")
    ward.parts.end_the_runner()
    await ward.turns(5)

    assert len(ward.told("healing_failed")) == 1
    await ward.book.settle()


async def test_a_fault_in_a_look_ends_nothing_and_is_told_once_a_turn() -> None:
    ward = Ward()
    ward.parts.fault = ValueError("no look")
    ward.healer._limits = Limits(stuck_s=0.05)  # a look each 10 ms
    task = asyncio.create_task(ward.healer.run())
    await eventually(lambda: len(ward.told("healing_failed")) >= 3)
    ward.parts.fault = None
    await eventually(lambda: ward.healer.history.look is not None)
    n_told = len(ward.told("healing_failed"))
    await asyncio.sleep(0.05)

    assert not task.done()
    assert len(ward.told("healing_failed")) == n_told
    task.cancel()
    await asyncio.wait({task})


async def test_its_end_lets_go_of_the_looks_and_of_a_probe(ward: Ward) -> None:
    await ward.healer.close()

    assert ward.parts.n_closed == 2
