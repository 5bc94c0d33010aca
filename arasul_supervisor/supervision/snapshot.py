"""What everybody else may know of the engine: immutable values that its one owner publishes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class State(str, Enum):
    """supervisord's process states; lower case is what JSON shows."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FATAL = "fatal"


class Wanted(str, Enum):
    """What the operator asked for last, apart from what is seen."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the engine is not up, where a cause is known: a stable key and a sentence that says what to do."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ExitReport:
    """How one generation ended.

    `code` is the exit status, `signal` the number that ended it; both null when the start itself failed.
    `is_oom_kill`: the kernel's out-of-memory killer ended it. `was_asked`: an operator, a cure or the end of the daemon
    wanted its end; False of a crash, of a start that failed and of one that never answered. `log_tail` holds its last
    lines, redacted, oldest first.
    """

    generation: int
    code: int | None
    signal: int | None
    reason: str
    at: float
    ran_s: float
    is_oom_kill: bool = False
    was_asked: bool = False
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunnerLoss:
    """A model's runner that the kernel's out-of-memory killer ended while its engine lived on."""

    sentence: str
    at: float
    mono: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine at one instant. `_mono` are CLOCK_MONOTONIC seconds, `_at` seconds since the epoch."""

    state: State = State.STOPPED
    wanted: Wanted = Wanted.DOWN
    generation: int = 0
    pid: int | None = None
    command: tuple[str, ...] = ()
    spool: Path | None = None
    started_at: float | None = None
    started_mono: float | None = None
    ready_at: float | None = None
    ready_mono: float | None = None
    engine_version: str | None = None
    restarts: int = 0
    short_lives: int = 0
    gave_up: bool = False
    next_attempt_at: float | None = None
    next_attempt_mono: float | None = None
    last_exit: ExitReport | None = None
    failure: Failure | None = None
    decision: str = "not started yet"
    answered_mono: float | None = None
    missed_beats: int = 0
    is_frozen: bool = False
    runner_loss: RunnerLoss | None = None
    oom_kills: int = 0
    grace_until_mono: float = 0.0

    @property
    def is_silent(self) -> bool:
        """True when a running engine missed three heartbeats in a row or is seen stopped (state T)."""
        return self.state is State.RUNNING and (self.is_frozen or self.missed_beats >= 3)

    @property
    def is_answering(self) -> bool:
        """True while the engine is ready and its heartbeat comes back."""
        return self.state is State.RUNNING and not self.is_silent


def why_down(snapshot: Snapshot) -> str:
    """Why the engine does not answer, as one sentence that says what to do where a person must act."""
    if snapshot.state is State.RUNNING:
        if snapshot.is_frozen:
            return "Ollama's process is stopped (state T): continue it, or POST /api/process/restart."
        return f"Ollama has missed {snapshot.missed_beats} heartbeats in a row."
    if snapshot.failure is not None and snapshot.state is not State.STOPPED:
        return snapshot.failure.sentence
    if snapshot.wanted is Wanted.DOWN:
        return "Ollama was stopped by an operator; POST /api/process/start starts it."
    words = {
        State.STOPPED: "Ollama is not running.",
        State.STARTING: "Ollama is starting and does not answer yet.",
        State.STOPPING: "Ollama is being stopped.",
        State.BACKOFF: f"Ollama has ended and is started again: {snapshot.decision}.",
        State.FATAL: f"Ollama is not started again: {snapshot.decision}.",
    }
    return words[snapshot.state]
