"""The engine's process as `/api/process` and `/health` show it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.clock import rfc3339

if TYPE_CHECKING:
    from arasul_supervisor.supervision.snapshot import ExitReport, Snapshot


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the last generation ended; `code` is its exit status, `signal` the number that ended it.

    `oom_killed`: that was the kernel's out-of-memory killer.
    """

    code: int | None
    signal: int | None
    reason: str
    at: str | None
    oom_killed: bool
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProcessView:
    """The engine's process.

    `decision` is the last thing decided about it, as a sentence; `oom_kills` how often the kernel ended it or one of
    its runners for want of memory in this life of the daemon.
    """

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
    oom_kills: int


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
        oom_kills=snapshot.oom_kills,
    )


def _last_exit(report: ExitReport | None) -> LastExit | None:
    if report is None:
        return None
    return LastExit(
        report.code, report.signal, report.reason, rfc3339(report.at), report.is_oom_kill, report.log_tail
    )
