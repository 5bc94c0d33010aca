"""Follows the spools of one engine generation after the other and gives their lines in blocks."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.logs.lines import Splitter
from arasul_supervisor.logs.prefilter import is_candidate
from arasul_supervisor.logs.resume import BEGINNING, Position
from arasul_supervisor.logs.spool import SpoolReader
from arasul_supervisor.logs.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.resume import SpoolNote

T = TypeVar("T")

READ_BYTES: Final = 512 * 1024  # each read hands the interpreter lock over several times: not too small
LAG_BYTES: Final = 64 * 1024 * 1024
RESUME_BYTES: Final = 1024 * 1024  # where reading goes on after a skip: this far before the end
PAUSE_S: Final = 0.9  # a line without an end is shown after this; just below the net of the wake-up


@dataclass(frozen=True, slots=True)
class Lines:
    """Complete lines of one generation, from `start` to `end` of its spool; `skipped_lines` are missing before them.

    `public_bytes` of them were written to the public log by another life of the daemon.
    """

    generation: int
    data: bytes
    start: Position
    end: Position
    public_bytes: int = 0
    skipped_lines: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A spool whose turn has not come yet, and where its reading begins."""

    generation: int
    path: Path
    start: Position
    public_bytes: int


class Follower:
    """The reading side. What touches a file runs in one thread of its own: a slow disk must not stop the loop."""

    def __init__(
        self,
        clock: Clock,
        open_inotify: Callable[[], int],
        *,
        lag_limit_bytes: int = LAG_BYTES,
        read_bytes: int = READ_BYTES,
    ) -> None:
        self._clock = clock
        self._open_inotify = open_inotify
        self._lag_limit_bytes = lag_limit_bytes
        self._read_bytes = read_bytes
        self._waiting: deque[Waiting] = deque()
        self._finished: SpoolReader | None = None
        self._given_to = BEGINNING
        self._public_bytes = 0
        self._generation = 0
        self._spool: SpoolReader | None = None
        self._wakeup: Wakeup | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-log")
        self._splitter = Splitter(needs_whole=is_candidate)
        self._grew_mono = 0.0
        self.trouble: str | None = None
        """Why nothing can be read, as one sentence; None while all is well."""

    @property
    def lag_bytes(self) -> int:
        """Bytes of the followed spool that are not read yet."""
        return max(0, self._spool.size_bytes() - self._spool.offset) if self._spool else 0

    @property
    def is_polling(self) -> bool:
        """True when inotify cannot be had for the followed spool, and it is looked at often instead."""
        return self._spool is not None and self._wakeup is not None and self._wakeup.is_blind

    @property
    def cut_lines(self) -> int:
        """Lines that were too long and lost their end."""
        return self._splitter.cut_lines

    def follow(
        self, generation: int, path: Path, start: Position = BEGINNING, *, public_bytes: int = 0
    ) -> None:
        """A generation begins. The engine of the one before is dead: its spool is read to its end, then removed.

        :param start: where another life of the daemon had come to
        :param public_bytes: how much of what follows from there it had written to the public log
        """
        self._waiting.append(Waiting(generation, path, start, public_bytes))
        self.wake()

    @property
    def note(self) -> SpoolNote | None:
        """Where it is noted what was copied; None once nothing more can come of a spool."""
        spool = self._finished or self._spool
        return spool.note if spool else None

    def wake(self) -> None:
        """Ends a wait."""
        if self._wakeup:
            self._wakeup.set()

    async def read(self) -> Lines | None:
        """The next lines, or None when there are none now. Cancelled, it loses nothing."""
        spool = self._spool or self._open_next()
        if spool is None:
            return None
        is_over = bool(self._waiting)  # asked before the read: what a dead engine wrote is then all there
        try:
            if self.lag_bytes > self._lag_limit_bytes:
                return await self._skip(spool)
            if spool.size_bytes() < spool.offset:  # somebody truncated it
                spool.offset = 0
                self._splitter.skip_line()
            chunk = await self.on_disk(spool.peek, self._read_bytes) if self.lag_bytes else b""
            self.trouble = None
        except OSError as error:
            self.trouble = f"The raw log {spool.path} cannot be read: {error.strerror}."
            chunk = b""
        if chunk:
            spool.offset += len(chunk)
            self._grew_mono = self._clock.mono()
            return self._lines(self._splitter.feed(chunk))
        if is_over:
            return self.finish()
        is_paused = self._clock.mono() - self._grew_mono >= PAUSE_S
        flushed = self._splitter.flush() if is_paused else b""
        return self._lines(flushed) if flushed else None

    def finish(self) -> Lines:
        """Ends the generation: gives the line that has no end. The spool is removed by the next `free`."""
        last = self._lines(self._splitter.end())
        self._finished, self._spool = self._spool, None
        if self._wakeup:
            self._wakeup.watch(None)
        return last

    async def free(self) -> None:
        """Gives back the disk space of what was read; called when that was written elsewhere."""
        if self._finished:
            finished, self._finished = self._finished, None
            await self.on_disk(finished.remove)
        if self._spool:
            await self.on_disk(self._spool.free, self._given_to.raw)

    async def wait(self) -> None:
        """Returns when there may be more to read."""
        self._wakeup = self._wakeup or Wakeup(self._open_inotify)
        if self._spool or self._waiting:
            await self._wakeup.wait_for_growth()
        else:
            await self._wakeup.wait()  # for a generation

    async def on_disk(self, call: Callable[..., T], *args: object) -> T:
        """Runs a call in the thread of the disk, after those before it; once submitted it runs, cancelled or not."""
        # without the shield a cancellation would take a call that still queues out of the queue, and its lines with it
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._disk, call, *args))

    def unread(self, limit_bytes: int, *, generation: int) -> tuple[bytes, bool] | None:
        """What this generation has written and `read` has not given yet: the last of it, moving nothing.

        :returns: complete lines, and whether they follow without a gap on those that were given; None when nothing
        """
        if self._spool is None or generation != self._generation:
            return self._unopened(limit_bytes, generation)
        try:
            return self._unread_of(self._spool, limit_bytes)
        except OSError:
            return None

    def close(self, *, last: Callable[[], None]) -> None:
        """Lets go of files and thread; `last` is what the thread does at its end. What was not read stays."""
        if self._wakeup:
            self._wakeup.close()
            self._wakeup = None
        for spool in filter(None, (self._finished, self._spool)):
            self._disk.submit(spool.close)
        self._finished = self._spool = None
        self._disk.submit(last)
        self._disk.shutdown(wait=False)

    def _open_next(self) -> SpoolReader | None:
        while self._waiting:
            first = self._waiting[0]
            try:
                self._spool = SpoolReader(first.path, first.start.raw)
            except OSError as error:
                if len(self._waiting) == 1:
                    if not isinstance(error, FileNotFoundError):  # its engine may be about to start
                        self.trouble = f"The raw log {first.path} cannot be opened: {error.strerror}."
                    return None
                self._waiting.popleft()  # its engine never started
                continue
            self._waiting.popleft()
            self._generation = first.generation
            self._given_to, self._public_bytes = first.start, first.public_bytes
            self._splitter.resume_line(first.start.flushed)
            self._wakeup = self._wakeup or Wakeup(self._open_inotify)
            self._wakeup.watch(first.path)
            return self._spool
        return None

    def _lines(self, data: bytes, *, skipped_lines: int = 0) -> Lines:
        """The lines, with the places in the spool that they lie between."""
        start, public_bytes = self._given_to, self._public_bytes
        raw = self._spool.offset - self._splitter.unended_bytes if self._spool else 0
        self._given_to, self._public_bytes = Position(raw, self._splitter.flushed_bytes), 0
        return Lines(self._generation, data, start, self._given_to, public_bytes, skipped_lines)

    def _unread_of(self, spool: SpoolReader, limit_bytes: int) -> tuple[bytes, bool]:
        size = spool.size_bytes()
        is_whole = size - spool.offset <= limit_bytes
        start = spool.offset if is_whole else size - limit_bytes
        beginning = self._splitter.partial if is_whole else b""
        return lines_of(beginning + spool.peek(limit_bytes, start=start), is_whole=is_whole)

    async def _skip(self, spool: SpoolReader) -> Lines:
        end = spool.size_bytes() - min(RESUME_BYTES, self._lag_limit_bytes // 2)
        n_lines = await self.on_disk(spool.count_lines, end)
        spool.offset = end
        self._splitter.skip_line()
        return self._lines(b"", skipped_lines=n_lines + 1)

    def _unopened(self, limit_bytes: int, generation: int) -> tuple[bytes, bool] | None:
        for waiting in self._waiting:
            if waiting.generation == generation:
                try:
                    reader = SpoolReader(waiting.path)
                except OSError:
                    return None
                size = reader.size_bytes()
                written = reader.peek(limit_bytes, start=max(0, size - limit_bytes))
                reader.close()
                return lines_of(written, is_whole=size <= limit_bytes)
        return None


def lines_of(written: bytes, *, is_whole: bool) -> tuple[bytes, bool]:
    """The lines of a piece of a spool; its first is left out when it may lack its beginning."""
    splitter = Splitter()
    if not is_whole:
        splitter.skip_line()
    return splitter.feed(written) + splitter.end(), is_whole
