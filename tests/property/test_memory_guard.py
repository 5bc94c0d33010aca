"""Over any story of memory the guard touches nothing above the floor, nobody who answers, and comes to an end."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.healing.looking.witnesses import LogLook, Look, MemoryLook
from arasul_supervisor.healing.treatment.memory_guard import (
    FALLING_LOOKS,
    GuardState,
    MemoryOrder,
    is_low,
    wish,
)

GIB, MIB = 1 << 30, 1 << 20
NAMES = ("a", "b", "c")
LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Moment:
    """What is seen at one look."""

    memory: MemoryLook | None
    idle: tuple[str, ...]
    busy: tuple[str, ...]
    orphans: frozenset[tuple[int, int]]
    is_loading: bool
    oom_kills: int
    is_refused: bool
    step_s: float
    lasts: int


@dataclass(slots=True)
class Story:
    """The guard over all moments; every order is carried out, whether it helps or not."""

    state: GuardState = field(default_factory=GuardState)
    now: float = 1000.0
    seen: list[tuple[float, GuardState, Moment, MemoryOrder]] = field(default_factory=list)

    def tell(self, moments: list[Moment]) -> Story:
        for moment in moments:
            for _ in range(moment.lasts):
                self.look(moment)
        return self

    def look(self, moment: Moment) -> None:
        self.now += moment.step_s
        outcomes = {"out_of_memory": (1, self.now)} if moment.is_refused else {}
        look = Look(
            self.now, 0.0, None, memory=moment.memory, log=LogLook(outcomes), oom_kills=moment.oom_kills
        )
        self.state = self.state.after(look, moment.step_s, is_loading=moment.is_loading)
        order = wish(
            self.state,
            look,
            idle=moment.idle,
            busy=moment.busy,
            orphans=moment.orphans,
            limits=LIMITS,
        )
        if order is not None:
            self.seen.append((self.now, self.state, moment, order))
            self.state = self.state.after_order(order, self.now, stuck=order.models)


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    memory = MemoryLook(
        draw(st.sampled_from((0, 100, 200, 300, 900, 1100, 1400, 1600, 3000))) * MIB,
        8 * GIB,
        is_dedicated=draw(st.booleans()),
        pressure_percent=draw(st.sampled_from((None, 0.0, 50.0))),
    )
    kinds = draw(st.lists(st.sampled_from(("absent", "idle", "busy")), min_size=3, max_size=3))
    return Moment(
        memory=None if draw(st.integers(0, 9)) == 0 else memory,
        idle=tuple(name for name, kind in zip(NAMES, kinds, strict=True) if kind == "idle"),
        busy=tuple(name for name, kind in zip(NAMES, kinds, strict=True) if kind == "busy"),
        orphans=frozenset(draw(st.lists(st.sampled_from(((9, 1), (9, 2))), max_size=2))),
        is_loading=draw(st.integers(0, 3)) == 0,
        oom_kills=draw(st.integers(0, 2)),
        is_refused=draw(st.booleans()),
        step_s=draw(st.sampled_from((0.5, 2.0, 5.0))),
        lasts=draw(st.sampled_from((1, 2, 10, 40))),
    )


stories = st.lists(moments(), max_size=12)


@given(stories)
def test_nothing_is_touched_above_the_floor(story: list[Moment]) -> None:
    seen = Story().tell(story).seen

    assert all(moment.memory is not None and is_low(moment.memory) for _, _, moment, _ in seen)


@given(stories)
def test_nobody_who_answers_is_touched_unless_the_box_is_about_to_fall_over(story: list[Moment]) -> None:
    seen = Story().tell(story).seen

    for _, state, moment, order in seen:
        assert not set(order.models) & set(moment.busy)
        is_violent = order.cure is Cure.RESTART_ENGINE and bool(moment.busy)
        assert not is_violent or state.falling_looks >= FALLING_LOOKS


@given(stories)
def test_a_load_is_disturbed_only_when_the_box_is_about_to_fall_over(story: list[Moment]) -> None:
    seen = Story().tell(story).seen

    assert all(state.falling_looks >= FALLING_LOOKS for _, state, moment, _ in seen if moment.is_loading)


@given(stories)
def test_two_steps_are_ten_seconds_apart(story: list[Moment]) -> None:
    times = [at for at, _, _, order in Story().tell(story).seen if order.cure is not Cure.NONE]

    assert all(later - earlier >= 10.0 for earlier, later in pairwise(times))


@given(stories, moments())
def test_memory_that_stays_short_is_given_up_after_each_thing_was_tried_once(
    story: list[Moment], last: Moment
) -> None:
    told = Story().tell(story)
    n_before = len(told.seen)

    for _ in range(400):
        told.look(last)

    ended = [order for *_, order in told.seen[n_before:]]
    # two lists of orphans, three models in two or more steps, one restart, one word of it
    assert len(ended) <= 2 + 3 + 1 + 1
    assert [order.cure for order in ended].count(Cure.RESTART_ENGINE) <= 1
    assert [order.cure for order in ended].count(Cure.NONE) <= 1


@given(stories)
def test_the_gentler_step_comes_first(story: list[Moment]) -> None:
    for _, state, moment, order in Story().tell(story).seen:
        if order.cure is not Cure.END_RUNNER:
            assert moment.orphans <= state.ended
        if order.cure is Cure.RESTART_ENGINE:
            assert set(moment.idle) <= state.freed
