"""The engine's process as `/api/process` and `/health` show it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.clock import rfc3339
from arasul_supervisor.supervision.snapshot import State

if TYPE_CHECKING:
    from arasul_supervisor.supervision.snapshot import ExitReport, Snapshot


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the last generation ended; `code` is its exit status, `signal` the number that ended it."""

    code: int | None
    signal: int | None
    reason: str
    at: str | None
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProcessView:
    """The engine's process. `decision` is the last thing decided about it, as a sentence."""

    state: str
    wanted: str
    gave_up: bool
    pid: int | None
    generation: int
    command: tuple[str, ...]
    started_at: str | None
    ready_at: str | None
    uptime_s: float | None
    restarts: int
    short_lives: int
    next_attempt_at: str | None
    last_exit: LastExit | None
    is_answering: bool
    decision: str


def process_view(snapshot: Snapshot, now_mono: float) -> ProcessView:
    """The whole view.

    :param now_mono: seconds of the clock that the snapshot's `_mono` fields came from
    """
    is_alive = snapshot.pid is not None and snapshot.started_mono is not None
    return ProcessView(
        state=snapshot.state.value,
        wanted=snapshot.wanted.value,
        gave_up=snapshot.gave_up,
        pid=snapshot.pid,
        generation=snapshot.generation,
        command=snapshot.command,
        started_at=rfc3339(snapshot.started_at),
        ready_at=rfc3339(snapshot.ready_at),
        uptime_s=round(now_mono - (snapshot.started_mono or 0.0), 3) if is_alive else None,
        restarts=snapshot.restarts,
        short_lives=snapshot.short_lives,
        next_attempt_at=rfc3339(snapshot.next_attempt_at),
        last_exit=_last_exit(snapshot.last_exit),
        is_answering=snapshot.is_answering,
        decision=snapshot.decision,
    )


def why_down(snapshot: Snapshot) -> str:
    """Why the engine does not answer, as one sentence that says what to do where a person must act."""
    if snapshot.state is State.RUNNING:
        if snapshot.is_frozen:
            return "Ollama's process is stopped (state T): continue it, or POST /api/process/restart."
        return f"Ollama has missed {snapshot.missed_beats} heartbeats in a row."
    if snapshot.failure is not None and snapshot.state is not State.STOPPED:
        return snapshot.failure.sentence
    if snapshot.wanted.value == "down":
        return "Ollama was stopped by an operator; POST /api/process/start starts it."
    words = {
        State.STOPPED: "Ollama is not running.",
        State.STARTING: "Ollama is starting and does not answer yet.",
        State.STOPPING: "Ollama is being stopped.",
        State.BACKOFF: f"Ollama has ended and is started again: {snapshot.decision}.",
        State.FATAL: f"Ollama is not started again: {snapshot.decision}.",
    }
    return words[snapshot.state]


def _last_exit(report: ExitReport | None) -> LastExit | None:
    if report is None:
        return None
    return LastExit(report.code, report.signal, report.reason, rfc3339(report.at), report.log_tail)
