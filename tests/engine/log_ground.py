"""The log's reading side as tests hold it: whole and running, or its follower alone, driven step by step."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs.engine_log import EngineLog
from arasul_supervisor.logs.follower import Follower
from arasul_supervisor.logs.public_log import PublicLog
from arasul_supervisor.logs.spool import SpoolFolder, punch_hole
from arasul_supervisor.logs.wakeup import open_inotify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from arasul_supervisor.logs.ring import LogBlock

LIMIT_S = 10.0


class HandClock:
    """A clock that the test turns."""

    now = 0.0

    def mono(self) -> float:
        """Seconds, as the test set them."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now


class Passed:
    """Keeps what is passed on."""

    def __init__(self) -> None:
        self.blocks: list[LogBlock] = []
        self.n_dropped = 0

    def write_engine(self, block: LogBlock, *, only_telling: bool) -> None:
        if only_telling:
            self.n_dropped += block.n_lines
        else:
            self.blocks.append(block)


class Told:
    """Puts what is logged into a list."""

    def __init__(self, reports: list[tuple[str, dict[str, object]]]) -> None:
        self._reports = reports

    def debug(self, event: str, **fields: object) -> None:
        self._reports.append((event, fields))

    info = warning = error = debug


class LogGround:
    """One engine log in a folder of its own; the spools may lie elsewhere."""

    def __init__(
        self,
        folder: Path,
        *,
        spools: Path | None = None,
        lag_limit_bytes: int = 64 << 20,
        inotify: Callable[[], int] = open_inotify,
        max_bytes: int = 50 << 20,
    ) -> None:
        self.public = folder / "ollama.log"
        self.spools = SpoolFolder(spools or folder / "spool")
        self.passed = Passed()
        self.reports: list[tuple[str, dict[str, object]]] = []
        self.log = EngineLog(
            PublicLog(self.public, max_bytes=max_bytes, keep=1000, clock=SystemClock()),
            self.passed,
            clock=SystemClock(),
            log=Told(self.reports),
            lag_limit_bytes=lag_limit_bytes,
            inotify=inotify,
        )
        self._first_seq = self.log.lines(0).next

    @property
    def n_read(self) -> int:
        """How many lines were read."""
        return self.log.lines(0).next - self._first_seq

    def begin(self, generation: int, *, written: bytes = b"") -> Path:
        spool = self.spools.path_for(generation)
        append(spool, written)
        self.log.follow(generation, spool)
        return spool

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.log.run(), name="engine-log")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=LIMIT_S)
        assert task.cancelled(), task

    async def until(self, is_so: Callable[[], bool]) -> None:
        end = SystemClock().mono() + LIMIT_S
        while not is_so():
            assert SystemClock().mono() < end, "it did not come to pass"
            await asyncio.sleep(0.005)

    async def until_text(self, text: str) -> None:
        await self.until(lambda: any(line.text == text for line in self.log.lines(1).lines))


class FollowerGround:
    """A follower whose every read the test calls, with a clock that the test turns."""

    def __init__(self, folder: Path, *, read_bytes: int = 64 * 1024) -> None:
        self.clock = HandClock()
        self.follower = Follower(self.clock, open_inotify, read_bytes=read_bytes)
        self.spools = SpoolFolder(folder)
        self.data = b""
        self.n_skipped = 0

    def begin(self, generation: int, *, written: bytes = b"") -> Path:
        """A generation begins, whose engine has written this."""
        spool = self.spools.path_for(generation)
        append(spool, written)
        self.follower.follow(generation, spool)
        return spool

    async def read(self) -> bool:
        """Reads once and copies what comes. False when there is nothing."""
        lines = await self.follower.read()
        if lines is None:
            return False
        self.data += lines.data
        self.n_skipped += lines.skipped_lines
        await self.follower.free()
        return True

    async def read_all(self) -> None:
        """Reads until there is nothing."""
        while await self.read():
            pass

    def close(self) -> None:
        """Lets go of everything."""
        self.follower.close(last=lambda: None)


def append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, data)
    os.close(fd)


async def child_writes(spool: Path, statement: str) -> None:
    """A child, as the engine is one, appends to the spool; waits for its end in a thread."""
    code = (
        f"import os; fd = os.open({str(spool)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)\n{statement}"
    )
    command = [sys.executable, "-c", code]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=LIMIT_S)


def can_punch(folder: Path) -> bool:
    fd = os.open(folder / "probe", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"x" * 8192)
    can = punch_hole(fd, 0, 4096)
    os.close(fd)
    return can
