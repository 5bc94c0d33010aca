"""Promise 3: a crash is followed by a start at once the first time, then by capped back-off with jitter."""

from __future__ import annotations

import pytest

from arasul_supervisor.supervision.restart_policy import (
    GiveUp,
    Life,
    Restart,
    RestartPolicy,
    is_short,
    next_start,
    short_lives_after,
)

POLICY = RestartPolicy(stable_s=10, base_s=0.5, max_s=30, reset_s=60, start_retries=20)
CRASH = Life(ran_s=3.0)


@pytest.mark.parametrize(
    ("life", "short"),
    [
        pytest.param(Life(None), True, id="a failed start"),
        pytest.param(Life(9.99), True, id="a run under the stable time"),
        pytest.param(Life(10.0), False, id="a run of just the stable time"),
        pytest.param(Life(3600.0), False, id="a long run"),
    ],
)
def test_a_short_life_is_a_failed_start_or_a_run_under_the_stable_time(life: Life, short: bool) -> None:
    assert is_short(life, POLICY) is short


def test_with_a_stable_time_of_zero_only_failed_starts_are_short() -> None:
    policy = RestartPolicy(stable_s=0)
    assert not is_short(Life(0.0), policy)
    assert is_short(Life(None), policy)


@pytest.mark.parametrize(
    ("life", "before", "after"),
    [
        pytest.param(Life(1.0), 3, 4, id="one more after a short life"),
        pytest.param(Life(20.0), 3, 3, id="as many after a stable run below the reset"),
        pytest.param(Life(60.0), 3, 0, id="none after a good run"),
        pytest.param(Life(None), 0, 1, id="the first failed start"),
    ],
)
def test_short_lives_in_a_row_are_counted(life: Life, before: int, after: int) -> None:
    assert short_lives_after(life, before, POLICY) == after


@pytest.mark.parametrize(
    ("short_lives", "delay_s"),
    [
        pytest.param(0, 0.0, id="after a stable run at once"),
        pytest.param(1, 0.0, id="after the first short life at once"),
        pytest.param(2, 0.5, id="0.5 * 2^0"),
        pytest.param(3, 1.0, id="0.5 * 2^1"),
        pytest.param(4, 2.0, id="0.5 * 2^2"),
        pytest.param(7, 16.0, id="0.5 * 2^5"),
        pytest.param(8, 30.0, id="0.5 * 2^6 = 32 is capped at 30"),
        pytest.param(19, 30.0, id="stays at the cap"),
    ],
)
def test_the_pause_doubles_up_to_the_cap(short_lives: int, delay_s: float) -> None:
    decision = next_start(short_lives, CRASH, POLICY, roll=1.0)
    assert isinstance(decision, Restart)
    assert decision.delay_s == pytest.approx(delay_s)


@pytest.mark.parametrize(("roll", "share"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_jitter_takes_between_half_and_all_of_the_pause(roll: float, share: float) -> None:
    decision = next_start(4, CRASH, POLICY, roll=roll)
    assert isinstance(decision, Restart)
    assert decision.delay_s == pytest.approx(2.0 * share)


def test_a_cause_that_a_person_must_remove_is_not_tried_again_at_once() -> None:
    decision = next_start(1, Life(None, "port_in_use"), POLICY, roll=1.0)
    assert isinstance(decision, Restart)
    assert decision.delay_s == pytest.approx(1.0)  # 0.5 * 2^1


def test_a_spent_budget_with_retry_goes_on_at_the_slowest_pace() -> None:
    decision = next_start(20, CRASH, POLICY, roll=1.0)
    assert decision == Restart(30.0, decision.reason, gave_up=True)


@pytest.mark.parametrize(("on_give_up", "leave"), [("exit", True), ("hold", False)])
def test_a_spent_budget_with_exit_or_hold_starts_no_more(on_give_up: str, leave: bool) -> None:
    policy = RestartPolicy(start_retries=5, on_give_up="exit" if on_give_up == "exit" else "hold")
    decision = next_start(5, CRASH, policy, roll=0.5)
    assert isinstance(decision, GiveUp)
    assert decision.leave is leave


@pytest.mark.parametrize("short_lives", [0, 1, 2, 5, 20])
def test_each_decision_gives_its_reason_with_the_count(short_lives: int) -> None:
    assert str(short_lives) in next_start(short_lives, CRASH, POLICY, roll=0.5).reason
