"""Whether a load moves, and how it is carried to its end: bounded by standing still, not by how long it takes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import EngineSilent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.supervision.engine import Engine

T = TypeVar("T")

STALL_S: Final = 300.0
LOOK_EVERY_S: Final = 2.0


class LoadProgress:
    """Two witnesses, because each alone is silent in a healthy load: a long read logs nothing, a copy from the
    page cache to the GPU reads nothing."""

    def __init__(self, engine: Engine, engine_log: EngineLog) -> None:
        self._engine = engine
        self._engine_log = engine_log

    async def mark(self) -> tuple[int, int]:
        """A value that differs from the last one when something moved."""
        pid = self._engine.snapshot.pid
        read_bytes = 0 if pid is None else await asyncio.to_thread(bytes_read_by_session, pid)
        return self._engine_log.lines(1).next, read_bytes


async def carry_load(
    load: Awaitable[T],
    *,
    model: str,
    mark: Callable[[], Awaitable[object]],
    clock: Clock,
    stall_s: float = STALL_S,
    look_every_s: float = LOOK_EVERY_S,
) -> T:
    """What the load returns. Ended from outside, or for want of progress, it is cancelled first.

    Only time that was watched counts: a suspended laptop or a paused VM looks once, whatever it slept.

    :param mark: differs from its last value when something moved, see `LoadProgress`
    :raises EngineSilent: nothing has moved for `stall_s`
    """
    task = asyncio.ensure_future(load)
    try:
        seen, looked_mono, still_s = await mark(), clock.mono(), 0.0
        while not (await asyncio.wait({task}, timeout=look_every_s))[0]:
            now, now_mono = await mark(), clock.mono()
            still_s = 0.0 if now != seen else still_s + min(now_mono - looked_mono, 2 * look_every_s)
            seen, looked_mono = now, now_mono
            if still_s >= stall_s:
                raise EngineSilent(
                    f"The load of {model} has made no progress for {stall_s:.0f} s.",
                    hint="POST /api/gpu/recover ends stuck runners.",
                )
        return task.result()
    finally:
        await end_task(task)


def bytes_read_by_session(leader_pid: int) -> int:
    """Bytes that the processes of that session have read so far; those that cannot be looked at count nothing."""
    return sum(_bytes_read(pid) for pid in _pids() if _session(pid) == leader_pid)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _bytes_read(pid: int) -> int:
    """`rchar` of /proc/<pid>/io counts read calls, `read_bytes` what came from the disk (mapped files too)."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            figures = dict(line.split(": ") for line in file.read().splitlines())
        return int(figures["rchar"]) + int(figures["read_bytes"])
    except (OSError, KeyError, ValueError):
        return 0
