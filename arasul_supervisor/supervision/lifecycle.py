"""The life of the engine as one total table: state and event give the next state and what to do.

Pure. The only reader of the table is the engine's owner (engine.py). `docs/lifecycle.md` is printed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from arasul_supervisor.supervision.snapshot import State, Wanted


class Event(Enum):
    """What can happen, in the past tense. The owner drops events of an older generation before they get here."""

    START_ASKED = auto()
    STOP_ASKED = auto()
    RESTART_ASKED = auto()
    CURE_ASKED = auto()
    SPAWN_FAILED = auto()
    BECAME_READY = auto()
    START_TIMED_OUT = auto()
    CHILD_EXITED = auto()
    STOP_TIMED_OUT = auto()
    TREE_GONE = auto()
    TREE_SURVIVED = auto()
    RESTART_GRANTED = auto()
    RESTART_DELAYED = auto()
    GAVE_UP_HOLDING = auto()
    GAVE_UP_LEAVING = auto()
    BACKOFF_ELAPSED = auto()
    RAN_STABLY = auto()


class Effect(Enum):
    """What to do to the world, in the imperative; done in the order of the cell."""

    SPAWN = auto()
    TERMINATE = auto()
    END_TREE = auto()
    COUNT_LIFE = auto()
    NOTE_EXIT = auto()
    DECIDE_RESTART = auto()
    FORGET_SHORT_LIVES = auto()
    RENEW_GRACE = auto()
    NOTE_READY = auto()
    NOTE_SURVIVORS = auto()
    ARM_START_LIMIT = auto()
    ARM_STOP_LIMIT = auto()
    ARM_BACKOFF = auto()
    ARM_STABLE = auto()
    CANCEL_TIMERS = auto()
    LEAVE = auto()


@dataclass(frozen=True, slots=True)
class Cell:
    """The next state and the effects on the way there."""

    state: State
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class ByWanted:
    """Two cells: the operator's last word chooses."""

    up: Cell
    down: Cell


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that changes nothing in this state, with the reason."""

    why: str


Entry = Cell | ByWanted | Ignored


def decide(state: State, wanted: Wanted, event: Event) -> Cell:
    """The next state and its effects; an ignored event keeps the state and does nothing."""
    entry = TABLE[state, event]
    if isinstance(entry, ByWanted):
        return entry.up if wanted is Wanted.UP else entry.down
    if isinstance(entry, Ignored):
        return Cell(state)
    return entry


def wanted_after(wanted: Wanted, event: Event) -> Wanted:
    """What the operator wants once the event is in: only his own commands change it."""
    if event in (Event.START_ASKED, Event.RESTART_ASKED):
        return Wanted.UP
    if event is Event.STOP_ASKED:
        return Wanted.DOWN
    return wanted


_LATE: Final = Ignored("a late report: what it speaks of is over")
_ALREADY: Final = Ignored("it is already so")
_ON_ITS_WAY: Final = Ignored("what is wanted is noted, and decided when the old tree is gone")
_NO_PATIENT: Final = Ignored("a restart cures what runs")
_NO_TREE: Final = Ignored("there is no process in this state")

_LAUNCH: Final = Cell(
    State.STARTING, (Effect.FORGET_SHORT_LIVES, Effect.RENEW_GRACE, Effect.SPAWN, Effect.ARM_START_LIMIT)
)
_START_AGAIN: Final = Cell(State.STARTING, (Effect.SPAWN, Effect.ARM_START_LIMIT))
_STOP: Final = Cell(State.STOPPING, (Effect.CANCEL_TIMERS, Effect.ARM_STOP_LIMIT, Effect.TERMINATE))
_DIED: Final = Cell(State.BACKOFF, (Effect.CANCEL_TIMERS, Effect.COUNT_LIFE, Effect.END_TREE))
_SURVIVED: Final = Cell(State.FATAL, (Effect.CANCEL_TIMERS, Effect.NOTE_SURVIVORS))
_CLEAR_THEN_START: Final = Cell(
    State.BACKOFF,
    (Effect.CANCEL_TIMERS, Effect.FORGET_SHORT_LIVES, Effect.RENEW_GRACE, Effect.END_TREE),
)
_CLEAR_THEN_STOP: Final = Cell(State.STOPPING, (Effect.CANCEL_TIMERS, Effect.END_TREE))
_JUDGE: Final = Cell(State.BACKOFF, (Effect.NOTE_EXIT, Effect.DECIDE_RESTART))
_REST: Final = Cell(State.STOPPED, (Effect.NOTE_EXIT, Effect.FORGET_SHORT_LIVES))

TABLE: Final[dict[tuple[State, Event], Entry]] = {
    # Nothing runs and nothing is wanted.
    (State.STOPPED, Event.START_ASKED): _LAUNCH,
    (State.STOPPED, Event.STOP_ASKED): _ALREADY,
    (State.STOPPED, Event.RESTART_ASKED): _LAUNCH,
    (State.STOPPED, Event.CURE_ASKED): _NO_PATIENT,
    (State.STOPPED, Event.SPAWN_FAILED): _LATE,
    (State.STOPPED, Event.BECAME_READY): _LATE,
    (State.STOPPED, Event.START_TIMED_OUT): _LATE,
    (State.STOPPED, Event.CHILD_EXITED): _LATE,
    (State.STOPPED, Event.STOP_TIMED_OUT): _LATE,
    (State.STOPPED, Event.TREE_GONE): _LATE,
    # The sweep at launch can find what nothing ends: no start beside it.
    (State.STOPPED, Event.TREE_SURVIVED): _SURVIVED,
    (State.STOPPED, Event.RESTART_GRANTED): _LATE,
    (State.STOPPED, Event.RESTART_DELAYED): _LATE,
    (State.STOPPED, Event.GAVE_UP_HOLDING): _LATE,
    (State.STOPPED, Event.GAVE_UP_LEAVING): _LATE,
    (State.STOPPED, Event.BACKOFF_ELAPSED): _LATE,
    (State.STOPPED, Event.RAN_STABLY): _LATE,
    # Spawned, not ready yet.
    (State.STARTING, Event.START_ASKED): _ALREADY,
    (State.STARTING, Event.STOP_ASKED): _STOP,
    (State.STARTING, Event.RESTART_ASKED): _STOP,
    (State.STARTING, Event.CURE_ASKED): _NO_PATIENT,
    (State.STARTING, Event.SPAWN_FAILED): Cell(
        State.BACKOFF,
        (Effect.CANCEL_TIMERS, Effect.COUNT_LIFE, Effect.NOTE_EXIT, Effect.DECIDE_RESTART),
    ),
    (State.STARTING, Event.BECAME_READY): Cell(
        State.RUNNING, (Effect.CANCEL_TIMERS, Effect.NOTE_READY, Effect.ARM_STABLE)
    ),
    # An engine that never answers holds no pull that a SIGKILL could hurt.
    (State.STARTING, Event.START_TIMED_OUT): _DIED,
    (State.STARTING, Event.CHILD_EXITED): _DIED,
    (State.STARTING, Event.STOP_TIMED_OUT): _LATE,
    (State.STARTING, Event.TREE_GONE): _LATE,
    (State.STARTING, Event.TREE_SURVIVED): _LATE,
    (State.STARTING, Event.RESTART_GRANTED): _LATE,
    (State.STARTING, Event.RESTART_DELAYED): _LATE,
    (State.STARTING, Event.GAVE_UP_HOLDING): _LATE,
    (State.STARTING, Event.GAVE_UP_LEAVING): _LATE,
    (State.STARTING, Event.BACKOFF_ELAPSED): _LATE,
    (State.STARTING, Event.RAN_STABLY): _LATE,
    # It answers.
    (State.RUNNING, Event.START_ASKED): _ALREADY,
    (State.RUNNING, Event.STOP_ASKED): _STOP,
    (State.RUNNING, Event.RESTART_ASKED): _STOP,
    (State.RUNNING, Event.CURE_ASKED): _STOP,
    (State.RUNNING, Event.SPAWN_FAILED): _LATE,
    (State.RUNNING, Event.BECAME_READY): _ALREADY,
    (State.RUNNING, Event.START_TIMED_OUT): _LATE,
    (State.RUNNING, Event.CHILD_EXITED): _DIED,
    (State.RUNNING, Event.STOP_TIMED_OUT): _LATE,
    (State.RUNNING, Event.TREE_GONE): _LATE,
    (State.RUNNING, Event.TREE_SURVIVED): _LATE,
    (State.RUNNING, Event.RESTART_GRANTED): _LATE,
    (State.RUNNING, Event.RESTART_DELAYED): _LATE,
    (State.RUNNING, Event.GAVE_UP_HOLDING): _LATE,
    (State.RUNNING, Event.GAVE_UP_LEAVING): _LATE,
    (State.RUNNING, Event.BACKOFF_ELAPSED): _LATE,
    (State.RUNNING, Event.RAN_STABLY): Cell(State.RUNNING, (Effect.FORGET_SHORT_LIVES,)),
    # Told to end; `wanted` says what follows.
    (State.STOPPING, Event.START_ASKED): _ON_ITS_WAY,
    (State.STOPPING, Event.STOP_ASKED): _ON_ITS_WAY,
    (State.STOPPING, Event.RESTART_ASKED): _ON_ITS_WAY,
    (State.STOPPING, Event.CURE_ASKED): _NO_PATIENT,
    (State.STOPPING, Event.SPAWN_FAILED): _LATE,
    (State.STOPPING, Event.BECAME_READY): _LATE,
    (State.STOPPING, Event.START_TIMED_OUT): _LATE,
    (State.STOPPING, Event.CHILD_EXITED): Cell(State.STOPPING, (Effect.CANCEL_TIMERS, Effect.END_TREE)),
    (State.STOPPING, Event.STOP_TIMED_OUT): Cell(State.STOPPING, (Effect.END_TREE,)),
    (State.STOPPING, Event.TREE_GONE): ByWanted(
        up=Cell(
            State.STARTING,
            (
                Effect.NOTE_EXIT,
                Effect.FORGET_SHORT_LIVES,
                Effect.RENEW_GRACE,
                Effect.SPAWN,
                Effect.ARM_START_LIMIT,
            ),
        ),
        down=_REST,
    ),
    (State.STOPPING, Event.TREE_SURVIVED): _SURVIVED,
    (State.STOPPING, Event.RESTART_GRANTED): _LATE,
    (State.STOPPING, Event.RESTART_DELAYED): _LATE,
    (State.STOPPING, Event.GAVE_UP_HOLDING): _LATE,
    (State.STOPPING, Event.GAVE_UP_LEAVING): _LATE,
    (State.STOPPING, Event.BACKOFF_ELAPSED): _LATE,
    (State.STOPPING, Event.RAN_STABLY): _LATE,
    # Dead: first its tree is cleared, then the next start is waited for.
    (State.BACKOFF, Event.START_ASKED): _CLEAR_THEN_START,
    (State.BACKOFF, Event.STOP_ASKED): _CLEAR_THEN_STOP,
    (State.BACKOFF, Event.RESTART_ASKED): _CLEAR_THEN_START,
    (State.BACKOFF, Event.CURE_ASKED): _NO_PATIENT,
    (State.BACKOFF, Event.SPAWN_FAILED): _LATE,
    (State.BACKOFF, Event.BECAME_READY): _LATE,
    (State.BACKOFF, Event.START_TIMED_OUT): _LATE,
    (State.BACKOFF, Event.CHILD_EXITED): Cell(State.BACKOFF, (Effect.END_TREE,)),
    (State.BACKOFF, Event.STOP_TIMED_OUT): _LATE,
    (State.BACKOFF, Event.TREE_GONE): _JUDGE,
    (State.BACKOFF, Event.TREE_SURVIVED): _SURVIVED,
    (State.BACKOFF, Event.RESTART_GRANTED): _START_AGAIN,
    (State.BACKOFF, Event.RESTART_DELAYED): Cell(State.BACKOFF, (Effect.ARM_BACKOFF,)),
    (State.BACKOFF, Event.GAVE_UP_HOLDING): Cell(State.FATAL),
    (State.BACKOFF, Event.GAVE_UP_LEAVING): Cell(State.FATAL, (Effect.LEAVE,)),
    (State.BACKOFF, Event.BACKOFF_ELAPSED): _START_AGAIN,
    (State.BACKOFF, Event.RAN_STABLY): _LATE,
    # Given up until told, or a tree that nothing ends.
    (State.FATAL, Event.START_ASKED): _CLEAR_THEN_START,
    (State.FATAL, Event.STOP_ASKED): _CLEAR_THEN_STOP,
    (State.FATAL, Event.RESTART_ASKED): _CLEAR_THEN_START,
    (State.FATAL, Event.CURE_ASKED): _NO_PATIENT,
    (State.FATAL, Event.SPAWN_FAILED): _LATE,
    (State.FATAL, Event.BECAME_READY): _LATE,
    (State.FATAL, Event.START_TIMED_OUT): _LATE,
    (State.FATAL, Event.CHILD_EXITED): Cell(State.FATAL, (Effect.END_TREE,)),
    (State.FATAL, Event.STOP_TIMED_OUT): _LATE,
    (State.FATAL, Event.TREE_GONE): ByWanted(up=_JUDGE, down=_REST),
    (State.FATAL, Event.TREE_SURVIVED): _SURVIVED,
    (State.FATAL, Event.RESTART_GRANTED): _NO_TREE,
    (State.FATAL, Event.RESTART_DELAYED): _NO_TREE,
    (State.FATAL, Event.GAVE_UP_HOLDING): _NO_TREE,
    (State.FATAL, Event.GAVE_UP_LEAVING): _NO_TREE,
    (State.FATAL, Event.BACKOFF_ELAPSED): _LATE,
    (State.FATAL, Event.RAN_STABLY): _LATE,
}


def as_markdown() -> str:
    """The table as the documentation shows it: one section a state, one row an event that does something."""
    return _HEADING + "".join(_section(state) for state in State)


def _section(state: State) -> str:
    rows, ignored = [], dict[str, list[str]]()
    for event in Event:
        entry = TABLE[state, event]
        if isinstance(entry, Ignored):
            ignored.setdefault(entry.why, []).append(event.name)
        elif isinstance(entry, ByWanted):
            rows += [
                _row(f"{event.name}, wanted up", entry.up),
                _row(f"{event.name}, wanted down", entry.down),
            ]
        else:
            rows.append(_row(event.name, entry))
    head = f"\n## {state.name}\n\n| event | next state | effects, in order |\n|---|---|---|\n"
    tail = "".join(f"\nIgnored ({why}): {', '.join(events)}.\n" for why, events in ignored.items())
    return head + "".join(rows) + tail


_HEADING: Final = """# The life of the engine

Printed from `arasul_supervisor/supervision/lifecycle.py`; a test fails when the two differ. Write it anew with
`python -m arasul_supervisor.supervision.lifecycle > docs/lifecycle.md`.
"""


def _row(event: str, cell: Cell) -> str:
    effects = ", ".join(effect.name for effect in cell.effects) or "none"
    return f"| {event} | {cell.state.name} | {effects} |\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(as_markdown())
