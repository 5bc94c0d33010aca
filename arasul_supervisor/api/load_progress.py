"""Whether a load moves: the engine's log goes on, or its processes read from disk."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.supervision.engine import Engine


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
