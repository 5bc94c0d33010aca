"""Guards DESIGN §9: what a healer may do: by its mode, by the GPU, the home, the operator, and what it did before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.gpu_rules import forbidden_cures
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Result
from tests.unit.healing_looks import RUNNER
from tests.unit.healing_ward import DEEP, HOUR_S, LOST_GPU, STUCK, UNREACHABLE, Ward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    opened = Ward()
    yield opened
    await opened.book.settle()


@pytest.fixture
async def leaving() -> AsyncIterator[Ward]:
    """Where somebody starts the daemon anew, and nobody waits for an answer."""
    opened = Ward(can_start_anew=True)
    opened.clock.now = 100_000.0
    opened.parts.runners = (RUNNER,)
    yield opened
    await opened.book.settle()


@pytest.fixture
async def observing() -> AsyncIterator[Ward]:
    opened = Ward("observe")
    yield opened
    await opened.book.settle()


async def test_who_only_observes_writes_the_cure_and_does_nothing(observing: Ward) -> None:
    await observing.turns(20, STUCK, DEEP)

    assert (observing.parts.done, observing.parts.expected) == ([], [])
    assert observing.results() == [("runner_stuck", "observed"), ("scheduler_stuck", "observed")]
    assert [incident.action for incident in observing.incidents] == ["runner_killed", "engine_restarting"]


async def test_who_only_observes_lets_memory_only_be_observed(observing: Ward) -> None:
    await observing.turns()

    assert [is_acting for is_acting, _ in observing.parts.memory_turns] == [False]


async def test_a_healer_that_is_off_looks_and_does_nothing_else() -> None:
    ward = Ward("off")
    await ward.turns(5, STUCK)

    assert (ward.parts.done, ward.incidents, ward.parts.memory_turns) == ([], [], [])
    assert (ward.parts.n_probing_turns, ward.healer.is_acting) == (0, False)
    assert ward.healer.history.look is not None


async def test_a_healer_that_is_off_still_sees_whether_memory_is_short() -> None:
    ward = Ward("off")
    await ward.turns(5)

    assert ward.parts.n_memory_looks == 5


@pytest.mark.parametrize(("mode", "is_acting"), [("act", True), ("observe", False), ("off", False)])
def test_only_who_acts_is_acting(mode: str, is_acting: bool) -> None:
    assert Ward(mode).healer.is_acting is is_acting


async def test_memory_is_told_what_the_gpu_forbids(ward: Ward) -> None:
    ward.parts.gpu = LOST_GPU
    await ward.turns()

    assert Cure.RESTART_ENGINE in ward.parts.memory_turns[0][1]


async def test_a_restart_that_the_gpu_forbids_is_not_tried(ward: Ward) -> None:
    ward.parts.gpu = LOST_GPU
    await ward.turns(1, DEEP)

    assert ward.parts.done == []
    assert ward.only.result == "gave_up"
    assert "a GPU in state lost forbids it" in ward.only.detail


@pytest.mark.parametrize("state", ["lost", "reset_required", "stuck", "driver_mismatch", "no_access"])
async def test_each_forbidden_cure_has_its_reason(ward: Ward, state: str) -> None:
    ward.parts.gpu = replace(LOST_GPU, state=state)
    await ward.turns()

    told = ward.healer.forbidden
    assert {cure: told[cure] for cure in forbidden_cures(state)} == {
        cure: f"{cure.value} is not tried: a GPU in state {state} forbids it"
        for cure in forbidden_cures(state)
    }


async def test_where_nobody_starts_it_anew_leaving_is_forbidden_with_what_a_person_does(ward: Ward) -> None:
    await ward.turns()

    assert ward.healer.forbidden[Cure.EXIT].endswith("Start it again.")


async def test_where_somebody_starts_it_anew_leaving_is_not_forbidden() -> None:
    ward = Ward(can_start_anew=True)
    await ward.turns()

    assert ward.healer.forbidden == {}


async def test_while_an_operator_wants_the_engine_down_the_daemon_does_not_leave(leaving: Ward) -> None:
    leaving.is_wanted = False
    await leaving.turns(1, UNREACHABLE)

    assert leaving.parts.done == []
    assert "An operator stopped Ollama" in leaving.only.detail


async def test_a_gpu_that_is_out_of_reach_is_left_for(leaving: Ward) -> None:
    leaving.healer.remember_exits()
    await leaving.turns(1, UNREACHABLE)

    assert leaving.parts.done == [("exit", "gpu_unreachable")]


@pytest.mark.parametrize(("ago_s", "leaves"), [(0.5 * HOUR_S, False), (2 * HOUR_S, True)])
async def test_who_left_for_it_within_the_hour_stays(leaving: Ward, ago_s: float, leaves: bool) -> None:
    leaving.left_earlier(ago_s=ago_s)
    leaving.healer.remember_exits()
    await leaving.turns(1, UNREACHABLE)

    assert bool(leaving.parts.done) is leaves


async def test_an_exit_that_a_caller_asked_for_counts_too(leaving: Ward) -> None:
    leaving.book.open(Kind.ASKED_FOR, what="It was asked for.", evidence="It is lost.", action=Cure.EXIT)
    leaving.healer.remember_exits()
    await leaving.turns(1, UNREACHABLE)

    assert leaving.parts.done == []


async def test_an_exit_that_would_only_have_been_does_not_count(leaving: Ward) -> None:
    observed = leaving.book.open(UNREACHABLE.kind, what="It is.", evidence="It is.", action=Cure.EXIT)
    leaving.book.close(observed, result=Result.OBSERVED, detail="It would have been the cure.")
    leaving.healer.remember_exits()
    await leaving.turns(1, UNREACHABLE)

    assert leaving.parts.done == [("exit", "gpu_unreachable")]


async def test_after_a_clock_that_was_set_back_an_earlier_exit_counts_as_of_now(leaving: Ward) -> None:
    leaving.left_earlier(ago_s=-10 * HOUR_S)
    leaving.healer.remember_exits()
    await leaving.turns(1, UNREACHABLE)
    done_at_once = list(leaving.parts.done)
    leaving.clock.now += HOUR_S
    await leaving.turns(2, UNREACHABLE)  # the case that was given up makes room first

    assert (done_at_once, leaving.parts.done) == ([], [("exit", "gpu_unreachable")])


async def test_the_time_of_our_own_cures_is_no_pause_of_the_box(ward: Ward) -> None:
    ward.parts.cure_s = 20.0
    await ward.turns(1, STUCK)
    await ward.turns(1)

    assert ward.healer.history.gap_mono is None


async def test_that_holds_where_memory_could_not_be_seen_to(ward: Ward) -> None:
    ward.parts.cure_s, ward.parts.memory_fault = 20.0, RuntimeError("no hand")
    with pytest.raises(RuntimeError):
        await ward.turns(1, STUCK)
    ward.parts.memory_fault = None
    await ward.turns(1)

    assert ward.healer.history.gap_mono is None


async def test_a_cure_excuses_one_pause_only(ward: Ward) -> None:
    ward.parts.cure_s = 20.0
    await ward.turns(1, STUCK)
    await ward.turns(1)
    ward.clock.now += 20.0
    await ward.turns(1)

    assert ward.healer.history.gap_mono == ward.clock.now
