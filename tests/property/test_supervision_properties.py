"""Promise 1 over any story: never two trees at once, never a start of what a person stopped, never a dead end."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arasul_supervisor.supervision.lifecycle import Effect, Event, decide, wanted_after
from arasul_supervisor.supervision.restart_policy import (
    Life,
    Restart,
    RestartPolicy,
    next_start,
    short_lives_after,
)
from arasul_supervisor.supervision.snapshot import State, Wanted

VERDICTS = (
    Event.RESTART_GRANTED,
    Event.RESTART_DELAYED,
    Event.GAVE_UP_HOLDING,
    Event.GAVE_UP_LEAVING,
)


class EngineWorld(RuleBasedStateMachine):
    """The table, driven by a world in which processes die, linger, and commands come at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.wanted = State.STOPPED, Wanted.DOWN
        self.leader_lives = self.tree_lives = self.tree_ending = self.is_ready = False
        self.timers: set[Event] = set()
        self.has_left = False

    def take(self, event: Event) -> None:
        self.wanted = wanted_after(self.wanted, event)
        cell = decide(self.state, self.wanted, event)
        self.state = cell.state
        for effect in cell.effects:
            self.do(effect)

    def do(self, effect: Effect) -> None:
        match effect:
            case Effect.SPAWN:
                assert not self.tree_lives, "a start beside a living tree"
                assert self.wanted is Wanted.UP, "a start that nobody wants"
                self.leader_lives = self.tree_lives = True
                self.is_ready = self.tree_ending = False
            case Effect.END_TREE if self.tree_lives:
                self.tree_ending = True
            case Effect.END_TREE:
                self.take(Event.TREE_GONE)
            case Effect.CANCEL_TIMERS:
                self.timers.clear()
            case Effect.ARM_START_LIMIT:
                self.timers.add(Event.START_TIMED_OUT)
            case Effect.ARM_STOP_LIMIT:
                self.timers.add(Event.STOP_TIMED_OUT)
            case Effect.ARM_BACKOFF:
                self.timers.add(Event.BACKOFF_ELAPSED)
            case Effect.ARM_STABLE:
                self.timers.add(Event.RAN_STABLY)
            case Effect.NOTE_READY:
                self.is_ready = True
            case Effect.LEAVE:
                self.has_left = True
            case Effect.DECIDE_RESTART:
                self.must_decide = True
            case _:
                pass

    must_decide = False

    @rule(event=st.sampled_from([Event.START_ASKED, Event.STOP_ASKED, Event.RESTART_ASKED]))
    @precondition(lambda self: not self.must_decide)
    def a_person_says_something(self, event: Event) -> None:
        self.take(event)

    @rule()
    @precondition(lambda self: not self.must_decide)
    def healing_asks_for_a_restart(self) -> None:
        wanted = self.wanted
        self.take(Event.CURE_ASKED)
        assert self.wanted is wanted, "a cure that overrules a person"

    @rule(verdict=st.sampled_from(VERDICTS))
    @precondition(lambda self: self.must_decide)
    def the_policy_speaks(self, verdict: Event) -> None:
        self.must_decide = False
        self.take(verdict)

    @rule()
    @precondition(lambda self: not self.must_decide and self.leader_lives)
    def the_leader_dies(self) -> None:
        self.leader_lives = False
        self.take(Event.CHILD_EXITED)

    @rule()
    @precondition(lambda self: not self.must_decide and self.leader_lives and not self.is_ready)
    def it_answers(self) -> None:
        self.take(Event.BECAME_READY)

    @rule()
    @precondition(lambda self: not self.must_decide and self.tree_ending)
    def the_tree_goes(self) -> None:
        self.tree_lives = self.tree_ending = self.leader_lives = False
        self.take(Event.TREE_GONE)

    @rule()
    @precondition(lambda self: not self.must_decide and self.tree_ending)
    def the_tree_survives(self) -> None:
        self.take(Event.TREE_SURVIVED)

    @rule(event=st.sampled_from(list(Event)))
    @precondition(lambda self: not self.must_decide and bool(self.timers))
    def a_timer_fires(self, event: Event) -> None:
        if event in self.timers:
            self.timers.discard(event)
            self.take(event)

    @invariant()
    def rest_means_that_nothing_is_alive(self) -> None:
        if self.state is State.STOPPED:
            assert not self.tree_lives

    @invariant()
    def running_means_that_it_was_ready(self) -> None:
        if self.state is State.RUNNING:
            assert self.is_ready

    @invariant()
    def something_always_leads_on(self) -> None:
        """Out of each passing state at least one event is on its way: a life, a timer, an ending tree, a verdict."""
        if self.state in (State.STARTING, State.STOPPING, State.BACKOFF):
            assert self.leader_lives or self.timers or self.tree_ending or self.must_decide


TestEngineWorld = EngineWorld.TestCase


@given(
    short_lives=st.integers(0, 100_000),
    ran_s=st.none() | st.floats(0, 1e7),
    cause=st.none() | st.sampled_from(["port_in_use", "start_failed"]),
    roll=st.floats(0, 1, exclude_max=True),
    base_s=st.floats(0, 1e3),
    max_s=st.floats(0, 1e6),
    retries=st.integers(1, 200_000),
)
def test_no_pause_is_negative_or_beyond_the_cap(
    short_lives: int,
    ran_s: float | None,
    cause: str | None,
    roll: float,
    base_s: float,
    max_s: float,
    retries: int,
) -> None:
    policy = RestartPolicy(base_s=base_s, max_s=max_s, start_retries=retries)
    decision = next_start(short_lives, Life(ran_s, cause), policy, roll)
    assert isinstance(decision, Restart)
    assert 0 <= decision.delay_s <= max_s
    assert math.isfinite(decision.delay_s)


@given(st.lists(st.none() | st.floats(0, 1000), max_size=50))
def test_a_good_run_forgives_everything_before_it(runs: list[float | None]) -> None:
    policy, short_lives = RestartPolicy(), 0
    for ran_s in [*runs, policy.reset_s]:
        short_lives = short_lives_after(Life(ran_s), short_lives, policy)
    assert short_lives == 0
