"""Follows the spools of one engine generation after the other and gives their lines in blocks."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.logs.disk_room import DiskRoom
from arasul_supervisor.logs.lines import Splitter
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.resume import BEGINNING, Position
from arasul_supervisor.logs.skim import Skimmed, behind_line, skim
from arasul_supervisor.logs.spool import SpoolReader
from arasul_supervisor.logs.spool_trouble import SpoolTrouble
from arasul_supervisor.logs.unread import unread_of, written_to
from arasul_supervisor.logs.wakeup import NET_S, REST_S, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.resume import SpoolNote

T = TypeVar("T")

READ_BYTES: Final = 512 * 1024  # each read hands the interpreter lock over several times: not too small
LAG_BYTES: Final = 64 * 1024 * 1024
RESUME_BYTES: Final = 1024 * 1024  # where reading goes on after a skip: this far before the end
TRICKLE_BYTES: Final = 16 * 1024  # who reads less than that at a time may as well wait for more
PAUSE_S: Final = 0.9  # a line without an end is shown after this; just below the net of the wake-up
FULL_MARK: Final = b" [cut @ full disk]\n"  # its @ makes the redaction look at the line
MISSING_NOTE: Final = b"arasul-supervisor: lines are missing here: the disk of the raw log was full\n"


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
    """The reading side. A file's data is read and freed in a thread of its own: a slow disk must not stop the loop."""

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
        self._n_read_last = 0
        self._room = DiskRoom(clock)
        self._trouble = SpoolTrouble()

    @property
    def trouble(self) -> str | None:
        """What is wrong with the raw log now, as one sentence that a person can act on; None while all is well."""
        return self._trouble.unreadable or (self._spool and self._room.trouble) or self._trouble.stuck

    def take_notices(self) -> list[str]:
        """Sentences on what befell the raw log, for the daemon's own log; each is given once."""
        return [*self._trouble.take_notices(), *self._room.take_notices()]

    @property
    def lag_bytes(self) -> int:
        """Bytes of the followed spool that are not read yet."""
        return max(0, self._spool.size_bytes() - self._spool.offset) if self._spool else 0

    @property
    def is_polling(self) -> bool:
        """True when inotify cannot be had for the followed spool, and it is looked at often instead."""
        return self._spool is not None and self._wakeup is not None and self._wakeup.is_blind

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
            size = spool.size_bytes()
            if size < spool.offset:
                self._begin_anew(spool)
            lag = size - spool.offset
            if spool.is_overgrown(size) and not is_over and not self._trouble.stuck:
                return await self.on_disk(self._empty_unread, spool)
            if lag > self._lag_limit_bytes:
                return await self._skip(spool)
            is_cut = not lag and self._splitter.unended_bytes > 0
            if self._room.is_due(has_cut_line=is_cut) and await self.on_disk(self._room.look, spool):
                return self._lines(MISSING_NOTE)
            chunk = await self.on_disk(spool.peek, min(lag, self._read_bytes)) if lag else b""
            self._trouble.unreadable = None
        except OSError as error:
            self._trouble.is_unreadable(spool.path, error)
            chunk = b""
        if spool.is_removed:
            self._trouble.was_removed(spool.path)
        if chunk:
            spool.offset += len(chunk)
            self._n_read_last = len(chunk)
            self._grew_mono = self._clock.mono()
            self._room.has_grown()
            return self._lines(self._splitter.feed(chunk))
        if is_over:
            return self.finish()
        return self._unended_line()

    def _unended_line(self) -> Lines | None:
        """What is shown of a line that has no end: after a pause, to be continued; on a full disk for good."""
        if self._room.is_full and self._splitter.unended_bytes:
            line = self._splitter.end()  # the engine could not write its end: what comes next is another line
            return self._lines(line[:-1] + FULL_MARK if line else b"")
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

    async def free(self, *, after: Callable[[], None] = lambda: None) -> None:
        """Gives back the disk space of what was read, after a call that writes it elsewhere, in the same thread."""
        finished, self._finished = self._finished, None
        await self.on_disk(self._free, after, finished, self._spool)

    async def wait(self) -> None:
        """Returns when there may be more to read."""
        self._wakeup = self._wakeup or Wakeup(self._open_inotify)
        if self._spool or self._waiting:
            is_at_rest = not self._waiting and self._room.is_at_rest and not self._splitter.unended_bytes
            await self._wakeup.wait_for_growth(
                at_rest_s=REST_S if is_at_rest else NET_S, gathers=self._n_read_last < TRICKLE_BYTES
            )
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
        try:
            if self._spool and generation == self._generation:
                return unread_of(self._spool, self._splitter.beginning, limit_bytes)
            for waiting in self._waiting:
                if waiting.generation == generation:
                    return written_to(waiting.path, limit_bytes)
        except OSError:
            return None
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
                is_last = len(self._waiting) == 1
                if not isinstance(error, FileNotFoundError):  # it may come, or its engine never started
                    tell = self._trouble.is_unreadable if is_last else self._trouble.was_passed_over
                    tell(first.path, error)
                if is_last:
                    return None
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            self._generation = first.generation
            self._given_to, self._public_bytes = first.start, first.public_bytes
            self._trouble.stuck = None
            self._splitter.resume_line(first.start.flushed)
            if self._spool.offset > first.start.raw:
                self._trouble.lacks_beginning(first.path)
                self._given_to, self._public_bytes = replace(first.start, raw=self._spool.offset), 0
                self._splitter.skip_line()
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

    def _begin_anew(self, spool: SpoolReader) -> None:
        self._trouble.was_truncated(spool.path)
        if self._splitter.unended_bytes:
            self._splitter.skip_line()  # what comes may be the rest of that line, which alone nobody may see
        self._given_to = replace(self._given_to, raw=0, flushed=0)
        spool.begin_anew()

    def _free(
        self, after: Callable[[], None], finished: SpoolReader | None, spool: SpoolReader | None
    ) -> None:
        """In the disk's thread; `read` is called only after it."""
        after()
        if finished:
            finished.remove()
        if spool:
            self._free_read(spool)

    def _free_read(self, spool: SpoolReader) -> None:
        if self._trouble.stuck:
            return
        try:
            if spool.free(self._given_to.raw):
                self._given_to = BEGINNING
                self._trouble.was_emptied(spool.path)
        except OSError as error:
            self._trouble.is_stuck(spool.path, error)

    def _empty_unread(self, spool: SpoolReader) -> Lines:
        """All in the disk's thread: half of it, when cancelled, would glue what was before to what comes."""
        read_to = spool.offset
        try:
            size = spool.size_bytes()
            seen = skim(spool, self._splitter.beginning, size)
            spool.offset = size
            n_late, has_ended = spool.empty_unread()
        except OSError as error:
            spool.offset = read_to
            self._trouble.is_stuck(spool.path, error)
            return self._lines(b"")
        self._given_to = BEGINNING
        self._splitter.skip_line()
        if has_ended:
            self._splitter.end()  # nothing to skip
        self._trouble.was_emptied_unread(spool.path)
        return self._skipped(replace(seen, n_lines=seen.n_lines - 1 + n_late))

    async def _skip(self, spool: SpoolReader) -> Lines:
        end = spool.size_bytes() - min(RESUME_BYTES, self._lag_limit_bytes // 2)
        end, has_ended = await self.on_disk(behind_line, spool, end)
        seen = await self.on_disk(skim, spool, self._splitter.beginning, end)
        spool.offset = end
        self._splitter.skip_line()
        if has_ended:
            self._splitter.end()  # nothing to skip
        return self._skipped(replace(seen, n_lines=seen.n_lines - has_ended))

    def _skipped(self, seen: Skimmed) -> Lines:
        self._public_bytes = 0  # what an earlier life had begun to write is not what comes now
        lines = self._lines(seen.kept, skipped_lines=seen.n_lines)
        self._given_to = replace(self._given_to, is_private=int(seen.is_private))
        return lines
