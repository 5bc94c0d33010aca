"""Guards DESIGN §9: what is not cured at once is treated within budgets, given up with a reason, and taken up
again; and what must not be done is not done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from tests.engine.simulated_attendant import Attendant, live
from tests.engine.simulated_box import Box
from tests.engine.simulated_faults import Again, EngineStands, Frozen, LoadStuck, Stuck

if TYPE_CHECKING:
    from tests.engine.simulated_runner import SimulatedRunner

WHY_NOT = "engine_restarting is not tried: a GPU in state driver_mismatch forbids it"


def busy_box() -> tuple[Box, SimulatedRunner]:
    box = Box()
    runner = box.loaded_runner("a:latest")
    box.open_request(runner)
    runner.is_busy = True
    return box, runner


def results(attendant: Attendant) -> list[str]:
    return [event.result for _, event in attendant.closed()]


def test_a_fault_that_comes_back_with_each_runner_and_each_engine_is_given_up_with_advice() -> None:
    box, _ = busy_box()
    attendant = Attendant(box)

    fault = Again(box, "a:latest", Stuck)
    live(attendant, 5400.0, fault.go_on, until=lambda: "gave_up" in results(attendant))

    kills, restarts = attendant.cures().count(Cure.END_RUNNER), attendant.cures().count(Cure.RESTART_ENGINE)
    assert (kills, restarts, attendant.closed()[-1][1].detail) == (
        10,
        3,
        "Runner_killed was tried 10 times in the last 30 min; engine_restarting was tried 3 times in the last 30 min. "
        "It is tried again in 10 min; POST /api/gpu/recover or /api/process/restart do it at once.",
    )


def test_a_case_that_was_given_up_for_a_spent_budget_is_taken_up_again_after_ten_minutes() -> None:
    box, _ = busy_box()
    attendant = Attendant(box)
    fault = Again(box, "a:latest", Stuck)
    live(attendant, 5400.0, fault.go_on, until=lambda: "gave_up" in results(attendant))
    given_up_mono = box.now_mono
    done = len(attendant.events)

    live(attendant, 700.0, fault.go_on, until=lambda: len(attendant.events) > done)

    assert 600.0 <= box.now_mono - given_up_mono <= 604.0


def test_a_load_of_ours_that_is_stuck_again_and_again_is_not_cancelled_for_ever() -> None:
    box = Box()
    attendant = Attendant(box)
    loads: list[LoadStuck] = []

    def load_again(_step_s: float) -> None:
        if box.own_load is None and box.is_engine_up:
            loads.append(LoadStuck(box, is_own=True))

    live(attendant, 900.0, load_again, until=lambda: Cure.END_RUNNER in attendant.cures())

    assert attendant.cures() == [Cure.CANCEL_LOAD] * 3 + [Cure.END_RUNNER]


def test_what_no_signal_reaches_is_given_up_with_the_advice_to_reboot() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    Frozen(runner, "D")
    attendant = Attendant(box)

    live(attendant, 300.0)

    assert "the box needs a reboot" in attendant.closed()[-1][1].detail


def test_a_runner_that_no_signal_reaches_costs_the_others_nothing() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    Frozen(runner, "D")
    attendant = Attendant(box)

    live(attendant, 3600.0)

    assert set(attendant.cures()) == {Cure.END_RUNNER}


def test_a_runner_that_no_signal_reaches_is_tried_again_every_ten_minutes() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    Frozen(runner, "D")
    attendant = Attendant(box)

    live(attendant, 3600.0)

    # 18 s until it is found, 10 s for the kill and 600 s of rest, each with a look in between: 5 rounds and a sixth
    assert [cured.kind for cured in box.cured] == [Kind.RUNNER_FROZEN.value] * 6


def test_an_engine_that_stays_down_for_a_runner_that_no_signal_reaches_is_not_restarted_again() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    EngineStands(box, "S")
    attendant = Attendant(box)

    live(attendant, 3600.0)

    assert (attendant.cures(), results(attendant)) == ([Cure.RESTART_ENGINE], [])


def test_a_killed_runner_that_works_again_is_cured() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    stuck = Stuck(runner)
    attendant = Attendant(box)
    live(attendant, 120.0, until=lambda: bool(box.cured))

    stuck.spins = True
    live(attendant, 8.0, stuck.go_on)

    assert [event.detail for _, event in attendant.closed()] == [
        f"The runner {runner.process.pid} works again."
    ]


def test_a_killed_runner_is_not_called_gone_while_nobody_can_look() -> None:
    box, runner = busy_box()
    Stuck(runner)
    attendant = Attendant(box)
    live(attendant, 120.0, until=lambda: bool(box.cured))

    box.proc_answers = False
    box.now_mono += 600.0  # the pause forgets what was known of the runners
    live(attendant, 60.0)

    assert results(attendant) == []


def test_observing_orders_nothing() -> None:
    box, runner = busy_box()
    Stuck(runner)
    attendant = Attendant(box, is_acting=False)

    live(attendant, 7200.0)

    assert box.cured == []


def test_observing_says_once_what_the_cure_would_have_been() -> None:
    box, runner = busy_box()
    Stuck(runner)
    attendant = Attendant(box, is_acting=False)

    live(attendant, 7200.0)

    said = [(event.result, event.detail) for _, event in attendant.closed()]
    assert said == [("observed", "ARASUL_HEAL=observe: runner_killed would have been the cure.")]


def test_a_cure_that_the_gpu_forbids_is_never_ordered() -> None:
    box, _ = busy_box()
    EngineStands(box, "S")
    attendant = Attendant(box, forbidden={Cure.RESTART_ENGINE: WHY_NOT})

    live(attendant, 3600.0)

    assert box.cured == []


def test_a_case_that_was_given_up_names_what_is_forbidden_and_why() -> None:
    box, _ = busy_box()
    EngineStands(box, "S")
    attendant = Attendant(box, forbidden={Cure.RESTART_ENGINE: WHY_NOT})

    live(attendant, 60.0)

    assert WHY_NOT[1:] in attendant.closed()[0][1].detail


def test_a_cure_that_is_allowed_is_used_where_a_harsher_one_is_forbidden() -> None:
    box, runner = busy_box()
    Stuck(runner)
    attendant = Attendant(box, forbidden={Cure.RESTART_ENGINE: WHY_NOT})

    live(attendant, 100.0)

    assert attendant.cures() == [Cure.END_RUNNER]


def test_two_sick_runners_are_cured_side_by_side() -> None:
    box, first = busy_box()
    second = box.loaded_runner("b:latest")
    attendant = Attendant(box)
    live(attendant, 10.0)
    Stuck(first)
    Frozen(second, "D")

    live(attendant, 120.0)

    cured = {(one.cure, one.kind, one.model) for one in box.cured}
    assert cured == {
        (Cure.END_RUNNER, "runner_stuck", "a:latest"),
        (Cure.END_RUNNER, "runner_frozen", "b:latest"),
    }


def test_while_the_engine_stands_its_runners_are_left_alone() -> None:
    box, runner = busy_box()
    Stuck(runner)
    EngineStands(box, "S")
    attendant = Attendant(box)

    live(attendant, 120.0)

    assert [cured.kind for cured in box.cured] == [Kind.ENGINE_FROZEN.value]


def test_an_engine_that_dies_during_a_treatment_ends_it_without_another_cure() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    Stuck(runner)
    attendant = Attendant(box)
    live(attendant, 120.0, until=lambda: bool(box.cured))
    runner.survives_kill = False

    box.crash()
    live(attendant, 300.0)

    assert (attendant.cures(), results(attendant)) == ([Cure.END_RUNNER], ["recovered"])


def test_a_runner_that_changes_its_symptom_under_treatment_is_one_case() -> None:
    box, runner = busy_box()
    runner.survives_kill = True
    Stuck(runner)
    attendant = Attendant(box)
    live(attendant, 120.0, until=lambda: bool(box.cured))

    Frozen(runner, "D")
    live(attendant, 40.0)

    kinds = [event.verdict.kind for _, event in attendant.opened()]
    assert kinds[:1] == [Kind.RUNNER_STUCK] and Kind.RUNNER_FROZEN not in kinds


def test_a_case_is_not_called_cured_for_a_pause_of_the_box() -> None:
    box = Box()
    LoadStuck(box, is_own=True, heeds_cancel=False)
    attendant = Attendant(box)
    live(attendant, 300.0, until=lambda: bool(box.cured))

    box.now_mono += 600.0
    live(attendant, 30.0)

    assert results(attendant) == []


@pytest.mark.parametrize("way_s", (7.0, 14.0))
def test_late_looks_still_find_a_stuck_thread(way_s: float) -> None:
    box, runner = busy_box()
    Stuck(runner)
    attendant = Attendant(box)

    live(attendant, 300.0, step_s=way_s, until=lambda: bool(box.cured))

    assert attendant.cures() == [Cure.END_RUNNER]
