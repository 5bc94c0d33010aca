"""Guards facts/gpu.md §7.3: short memory frees what is wanted least, step by step, and nothing above the floor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.healing.looking.witnesses import LogLook, Look, MemoryLook, RunnerLook, told
from arasul_supervisor.healing.treatment.memory_guard import GuardState, MemoryOrder, wish
from arasul_supervisor.supervision.process_looks import ProcessLook

GIB, MIB = 1 << 30, 1 << 20
LIMITS = Limits()
RUNNER = RunnerLook(ProcessLook((700, 1), "S", 0, 0, None, is_runnable=False), 4000, "sha256:a")
LOW = MemoryLook(900 * MIB, 8 * GIB)  # the floor is max(1 GiB, 3 % of 8 GiB) = 1 GiB
ENDANGERED = MemoryLook(200 * MIB, 8 * GIB, pressure_percent=12.0)  # max(256 MiB, 1 % of 8 GiB) = 256 MiB
FULL_CARD = MemoryLook(2 * GIB, 80 * GIB, is_dedicated=True)  # 97.5 %
ORPHAN = (801, 5)


class Guard:
    """The guard over looks two seconds apart, all of whose orders are carried out."""

    def __init__(self, memory: MemoryLook, *, idle: tuple[str, ...] = (), busy: tuple[str, ...] = ()) -> None:
        self.memory, self.idle, self.busy = memory, idle, busy
        self.orphans: tuple[tuple[int, int], ...] = ()
        self.is_loading = self.is_stuck = False
        self.state, self.now = GuardState(), 1000.0
        self.more: dict[str, Any] = {"runners": told((RUNNER,), 0.0)}  # Any: fields of the look
        self.given: list[tuple[float, MemoryOrder]] = []

    def watch(self, seconds: float, *, watched_s: float = 2.0) -> list[MemoryOrder]:
        """The orders of the next seconds."""
        n_before, end = len(self.given), self.now + seconds
        while self.now < end:
            self.now += 2.0
            look = Look(self.now, 0.0, None, memory=self.memory, **self.more)
            self.state = self.state.after(look, watched_s, is_loading=self.is_loading)
            order = wish(
                self.state, look, idle=self.idle, busy=self.busy, orphans=self.orphans, limits=LIMITS
            )
            if order is not None:
                stuck = order.models if self.is_stuck else ()
                self.state = self.state.after_order(order, self.now, stuck=stuck)
                self.given.append((self.now - 1000.0, order))
        return [order for _, order in self.given[n_before:]]

    def refuse(self, model: str, *, ago_s: float) -> None:
        """The engine's log tells of a model that did not fit."""
        self.more["log"] = LogLook({"out_of_memory": (1, self.now - ago_s)})


def cures(orders: list[MemoryOrder]) -> list[tuple[Cure, tuple[str, ...]]]:
    return [(order.cure, order.models) for order in orders]


def test_memory_that_is_low_for_thirty_seconds_costs_the_model_used_longest_ago() -> None:
    guard = Guard(LOW, idle=("old", "new"))

    assert guard.watch(30) == []  # 28 s of them were watched: the first look begins it
    assert cures(guard.watch(4)) == [(Cure.UNLOAD, ("old",))]


def test_the_order_says_what_was_seen() -> None:
    (order,) = Guard(LOW, idle=("old",)).watch(34)

    assert order.evidence == (
        "Only 900 MiB of 8192 MiB of memory are available, under the floor of 1024 MiB for 30 s, with no load under "
        "way."
    )


@pytest.mark.parametrize(
    "memory",
    [
        MemoryLook(1 * GIB, 8 * GIB, pressure_percent=90.0),
        MemoryLook(2 * GIB, 64 * GIB),  # 3 % of 64 GiB = 1.92 GiB
        FULL_CARD,
        MemoryLook(0, 80 * GIB, is_dedicated=True, pressure_percent=90.0),
    ],
    ids=["at the floor", "over 3 %", "a full card", "a card without a free byte"],
)
def test_memory_that_is_not_short_is_left_alone(memory: MemoryLook) -> None:
    assert Guard(memory, idle=("old",)).watch(300) == []


def test_three_percent_of_a_large_box_is_its_floor() -> None:
    assert len(Guard(MemoryLook(1900 * MIB, 64 * GIB), idle=("old",)).watch(34)) == 1


def test_seconds_that_nobody_watched_do_not_count() -> None:
    assert Guard(LOW, idle=("old",)).watch(600, watched_s=0.0) == []


def test_a_dip_above_the_floor_begins_the_time_anew() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.watch(28)
    guard.memory = MemoryLook(1100 * MIB, 8 * GIB)
    guard.watch(2)
    guard.memory = LOW

    assert guard.watch(28) == []


def test_a_load_in_progress_holds_everything_off() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.is_loading = True

    assert guard.watch(300) == []


def test_the_time_begins_when_the_load_has_ended() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.is_loading = True
    guard.watch(300)
    guard.is_loading = False

    assert guard.watch(28) == []
    assert len(guard.watch(2)) == 1


def test_runners_that_nobody_owns_go_first() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.orphans = (ORPHAN,)

    assert [order.orphans for order in guard.watch(34)] == [(ORPHAN,)]


def test_a_runner_that_could_not_be_ended_does_not_stop_the_next_step() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.orphans = (ORPHAN,)

    assert [order.cure for order in guard.watch(46)] == [Cure.END_RUNNER, Cure.UNLOAD]


def test_memory_has_ten_seconds_to_come_back_between_two_steps() -> None:
    guard = Guard(LOW, idle=("old", "mid", "new"))
    guard.watch(60)

    times = [at for at, _ in guard.given]
    assert all(later - earlier >= 10.0 for earlier, later in pairwise(times))


def test_a_model_that_is_loaded_again_meanwhile_does_not_cost_the_engine() -> None:
    guard = Guard(LOW, idle=("old",))

    assert cures(guard.watch(600)) == [(Cure.UNLOAD, ("old",)), (Cure.NONE, ())]


def test_one_model_goes_then_all_idle_ones_then_the_engine_and_then_it_is_said_once() -> None:
    guard = Guard(LOW, idle=("old", "mid", "new"))
    guard.is_stuck = True

    assert cures(guard.watch(600)) == [
        (Cure.UNLOAD, ("old",)),
        (Cure.UNLOAD, ("mid", "new")),
        (Cure.RESTART_ENGINE, ()),
        (Cure.NONE, ()),
    ]


def test_an_engine_without_runners_is_not_restarted_for_what_others_hold() -> None:
    guard = Guard(LOW)
    guard.more["runners"] = told((), 0.0)

    (order,) = guard.watch(600)
    assert order.cure is Cure.NONE
    assert "other programs" in order.evidence


def test_a_model_that_answers_is_waited_for() -> None:
    guard = Guard(LOW, busy=("talking",))

    assert guard.watch(600) == []
    guard.idle, guard.busy = ("talking",), ()
    assert cures(guard.watch(2)) == [(Cure.UNLOAD, ("talking",))]


def test_what_was_said_is_said_again_only_after_memory_had_recovered() -> None:
    guard = Guard(LOW)
    guard.more["runners"] = told((), 0.0)
    guard.watch(60)
    guard.memory = MemoryLook(1400 * MIB, 8 * GIB)  # over the floor, not over 1.5 of it
    guard.watch(20)
    guard.memory = LOW
    assert guard.watch(60) == []

    guard.memory = MemoryLook(1600 * MIB, 8 * GIB)
    guard.watch(20)
    guard.memory = LOW
    assert len(guard.watch(60)) == 1


def test_after_a_step_that_helped_nothing_more_is_freed() -> None:
    guard = Guard(LOW, idle=("old", "new"))
    guard.watch(34)
    guard.memory, guard.idle = MemoryLook(3 * GIB, 8 * GIB), ("new",)

    assert guard.watch(600) == []


def test_a_box_about_to_fall_over_frees_all_idle_models_at_once_though_one_loads() -> None:
    guard = Guard(ENDANGERED, idle=("old", "new"))
    guard.is_loading = True

    assert cures(guard.watch(4)) == [(Cure.UNLOAD, ("old", "new"))]


def test_a_box_about_to_fall_over_does_not_wait_for_an_answer_to_end() -> None:
    (order,) = Guard(ENDANGERED, busy=("talking",)).watch(4)

    assert order.cure is Cure.RESTART_ENGINE
    assert order.evidence.endswith("tasks wait for memory 12 % of the time: the box is about to fall over.")


def test_little_memory_without_a_second_witness_is_no_danger() -> None:
    assert Guard(MemoryLook(10 * MIB, 8 * GIB), busy=("talking",)).watch(600) == []


def test_what_the_kernel_ended_since_memory_is_short_is_a_second_witness() -> None:
    guard = Guard(MemoryLook(200 * MIB, 8 * GIB), busy=("talking",))
    guard.more["oom_kills"] = 1

    assert [order.cure for order in guard.watch(4)] == [Cure.RESTART_ENGINE]


def test_what_the_kernel_ended_earlier_is_not() -> None:
    guard = Guard(MemoryLook(4 * GIB, 8 * GIB), busy=("talking",))
    guard.more["oom_kills"] = 3
    guard.watch(4)
    guard.memory = MemoryLook(200 * MIB, 8 * GIB)

    assert guard.watch(600) == []


def test_a_card_that_is_full_when_a_model_did_not_fit_gives_up_one_idle_model() -> None:
    guard = Guard(FULL_CARD, idle=("old", "new"))
    guard.refuse("large", ago_s=50.0)

    assert cures(guard.watch(8)) == [(Cure.UNLOAD, ("old",))]


def test_one_refusal_of_a_model_costs_no_second_one() -> None:
    guard = Guard(FULL_CARD, idle=("old", "new"))
    guard.refuse("large", ago_s=0.0)

    assert len(guard.watch(50)) == 1


def test_a_refusal_a_minute_ago_counts_no_more() -> None:
    guard = Guard(FULL_CARD, idle=("old", "new"))
    guard.refuse("large", ago_s=60.0)

    assert guard.watch(60) == []


def test_a_runner_that_nobody_owns_on_a_full_card_is_ended() -> None:
    guard = Guard(FULL_CARD, idle=("old",))
    guard.orphans = (ORPHAN,)

    assert [order.orphans for order in guard.watch(60)] == [(ORPHAN,)]


def test_a_look_that_tells_nothing_of_memory_orders_nothing() -> None:
    guard = Guard(LOW, idle=("old",))
    guard.watch(28)
    look = Look(guard.now + 2.0, 0.0, None)
    state = guard.state.after(look, 2.0, is_loading=False)

    assert wish(state, look, idle=("old",), busy=(), orphans=(), limits=LIMITS) is None
