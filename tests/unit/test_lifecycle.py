"""The table of the engine's life is total, printed truthfully, and keeps the rules of CONTRACT §3."""

from __future__ import annotations

from pathlib import Path

import pytest

from arasul_supervisor.supervision.lifecycle import (
    TABLE,
    ByWanted,
    Cell,
    Effect,
    Event,
    Ignored,
    as_markdown,
    decide,
    wanted_after,
)
from arasul_supervisor.supervision.snapshot import State, Wanted

COMMANDS = (Event.START_ASKED, Event.STOP_ASKED, Event.RESTART_ASKED)
DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def cells() -> list[Cell]:
    """Every cell of the table, both halves of those that depend on what is wanted."""
    found: list[Cell] = []
    for entry in TABLE.values():
        if isinstance(entry, ByWanted):
            found += [entry.up, entry.down]
        elif isinstance(entry, Cell):
            found.append(entry)
    return found


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_state_knows_every_event(state: State, event: Event) -> None:
    assert (state, event) in TABLE


def test_the_table_holds_nothing_else() -> None:
    assert len(TABLE) == len(State) * len(Event)


def test_the_documentation_shows_the_table_as_it_is() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == as_markdown()


def test_an_ignored_event_says_why() -> None:
    reasons = [entry.why for entry in TABLE.values() if isinstance(entry, Ignored)]
    assert all(reasons)


def test_every_effect_is_used() -> None:
    assert {effect for cell in cells() for effect in cell.effects} == set(Effect)


def test_a_spawn_is_always_followed_by_its_time_limit() -> None:
    spawning = [cell.effects for cell in cells() if Effect.SPAWN in cell.effects]
    assert all(effects[-2:] == (Effect.SPAWN, Effect.ARM_START_LIMIT) for effects in spawning)


def test_only_a_cell_that_leads_to_starting_spawns() -> None:
    assert {cell.state for cell in cells() if Effect.SPAWN in cell.effects} == {State.STARTING}


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_a_stop_of_a_living_engine_begins_with_sigterm_and_its_limit(state: State) -> None:
    cell = decide(state, Wanted.DOWN, Event.STOP_ASKED)
    assert cell == Cell(State.STOPPING, (Effect.CANCEL_TIMERS, Effect.ARM_STOP_LIMIT, Effect.TERMINATE))


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_a_death_ends_the_whole_tree_before_anything_is_decided(state: State) -> None:
    cell = decide(state, Wanted.UP, Event.CHILD_EXITED)
    assert cell.state is State.BACKOFF
    assert Effect.END_TREE in cell.effects
    assert Effect.DECIDE_RESTART not in cell.effects


def test_an_exit_that_races_with_the_stop_limit_is_ended_once_more_and_no_restart_follows() -> None:
    cell = decide(State.STOPPING, Wanted.DOWN, Event.STOP_TIMED_OUT)
    assert cell == Cell(State.STOPPING, (Effect.END_TREE,))


def test_a_stop_during_backoff_leads_to_stopped_by_way_of_an_empty_tree() -> None:
    cell = decide(State.BACKOFF, Wanted.DOWN, Event.STOP_ASKED)
    assert cell.state is State.STOPPING
    assert decide(State.STOPPING, Wanted.DOWN, Event.TREE_GONE).state is State.STOPPED


def test_a_start_during_stopping_starts_anew_once_the_old_tree_is_gone() -> None:
    wanted = wanted_after(Wanted.DOWN, Event.START_ASKED)
    assert decide(State.STOPPING, wanted, Event.START_ASKED) == Cell(State.STOPPING)
    assert decide(State.STOPPING, wanted, Event.TREE_GONE).state is State.STARTING


def test_a_second_stop_changes_nothing() -> None:
    assert decide(State.STOPPING, Wanted.DOWN, Event.STOP_ASKED) == Cell(State.STOPPING)


@pytest.mark.parametrize("state", [State.BACKOFF, State.STOPPING, State.STOPPED, State.FATAL])
def test_a_tree_that_survives_sigkill_is_fatal_and_nothing_starts_beside_it(state: State) -> None:
    cell = decide(state, Wanted.UP, Event.TREE_SURVIVED)
    assert cell.state is State.FATAL
    assert Effect.SPAWN not in cell.effects


def test_an_unkillable_tree_that_goes_after_all_lets_the_engine_start_again() -> None:
    cell = decide(State.FATAL, Wanted.UP, Event.TREE_GONE)
    assert cell == Cell(State.BACKOFF, (Effect.NOTE_EXIT, Effect.DECIDE_RESTART))


def test_what_a_person_stopped_is_not_started_when_its_tree_goes() -> None:
    assert decide(State.FATAL, Wanted.DOWN, Event.TREE_GONE).state is State.STOPPED


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_cure_restarts_only_what_runs(state: State) -> None:
    assert decide(state, Wanted.UP, Event.CURE_ASKED) == Cell(state)


def test_a_cure_ends_a_running_engine_as_a_restart_does() -> None:
    cure = decide(State.RUNNING, Wanted.UP, Event.CURE_ASKED)
    assert cure == decide(State.RUNNING, Wanted.UP, Event.RESTART_ASKED)


@pytest.mark.parametrize("event", [event for event in Event if event not in COMMANDS])
def test_only_the_operator_changes_what_is_wanted(event: Event) -> None:
    assert wanted_after(Wanted.UP, event) is Wanted.UP
    assert wanted_after(Wanted.DOWN, event) is Wanted.DOWN
