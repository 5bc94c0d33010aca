"""The engine's log: followed, copied to the public file, passed on, kept, and read for outcomes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from arasul_supervisor.logs.follower import LAG_BYTES, Follower
from arasul_supervisor.logs.lines import pieces
from arasul_supervisor.logs.meaning.finding import Finding
from arasul_supervisor.logs.meaning.reading import Reading, texts_of
from arasul_supervisor.logs.meaning.screen import screen
from arasul_supervisor.logs.resume import BEGINNING, resume_position
from arasul_supervisor.logs.ring import LineFilter, LogBlock, LogPage, Ring
from arasul_supervisor.logs.wakeup import open_inotify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.logs.follower import Lines
    from arasul_supervisor.logs.meaning.levels import Level
    from arasul_supervisor.logs.public_log import PublicLog
    from arasul_supervisor.logs.resume import PublicPart

EARLIER_LIFE: Final = 0
"""The generation under which lines are shown that an earlier life of the daemon had not read."""
RING_LINES: Final = 5_000
PAGE_LINES: Final = 5_000
SEQS_PER_S: Final = 1_000_000  # lines count on from the time of the start: no life logs so fast for long
PIECE_BYTES: Final = 64 * 1024  # looked through in one go: some ms even when every line is a candidate
TURN_S: Final = 0.002  # then the loop gets its turn
BEHIND_BYTES: Final = 8 * 1024 * 1024  # so far behind, stdout goes without, that the file may have all
TAIL_BYTES: Final = 256 * 1024
SKIP_NOTE: Final = b"arasul-supervisor: %d lines skipped: the engine wrote faster than they can be copied\n"
DRAIN_S: Final = 0.4  # read at most so long at the end of the daemon; the next life goes on from there


class Sink(Protocol):
    """Where the engine's lines are passed on to."""

    def write_engine(self, block: LogBlock, *, only_telling: bool) -> None:
        """Takes lines without ever waiting: all, or in a flood only those that mean something."""


class EngineLog:
    """All that is known of the engine's lines. Owned by the task that runs `run`; readers read between its turns."""

    def __init__(
        self,
        public_log: PublicLog,
        passed_on: Sink,
        *,
        clock: Clock,
        log: EventLog,
        ring_lines: int = RING_LINES,
        lag_limit_bytes: int = LAG_BYTES,
        inotify: Callable[[], int] = open_inotify,
    ) -> None:
        """Wire the parts; nothing is opened yet.

        :param log: the daemon's own, for what befalls the engine and its log
        :param ring_lines: number of recent lines kept for the API
        :param lag_limit_bytes: unread bytes from which lines are skipped
        :param inotify: gives an inotify descriptor, or raises OSError: then the spool is looked at often
        """
        self._public_log = public_log
        self._passed_on = passed_on
        self._clock = clock
        self._log = log
        self._ring = Ring(limit_lines=ring_lines, first_seq=int(clock.wall() * SEQS_PER_S))
        self._follower = Follower(clock, inotify, lag_limit_bytes=lag_limit_bytes)
        self._reading = Reading(self._tell_outcome)
        self._pieces: deque[tuple[int, bytes]] = deque()  # read, not looked through yet
        self._unwritten: list[bytes] = []  # looked through, not in the public file yet
        self._generation = EARLIER_LIFE  # of what is being written
        self._read_to = self._written_to = BEGINNING
        self._is_behind = False
        self._public_bytes = 0  # of what is unwritten, in the public file already
        self._told_trouble: str | None = None
        self._is_polling_told = False
        self._notices: list[str] = []
        self._told_notice = ""
        self.skipped_lines = 0

    @property
    def lag_bytes(self) -> int:
        """Bytes that the engine has written and nobody has read yet."""
        return self._follower.lag_bytes

    @property
    def dropped(self) -> int:
        """Lines that the public file lacks: skipped in a flood, or lost on a full disk."""
        return self.skipped_lines + self._public_log.lost_lines

    def follow(self, generation: int, spool: Path) -> None:
        """A generation begins, whose engine writes this spool; the one before is dead."""
        self._reading.begin(generation)
        self._follower.follow(generation, spool)

    def expect_end(self, generation: int) -> None:
        """This generation is being ended by us: what dies with it is no fault."""
        self._reading.expect_end(generation)

    def expect_runner_deaths(self, generation: int, *, later: int) -> None:
        """We end runners of this generation.

        :param later: how many of them Ollama may meet dead at a later request
        """
        self._reading.expect_runner_deaths(generation, mono=self._clock.mono(), later=later)

    def resume(self, spool: Path) -> None:
        """Reads to its end what an earlier life of the daemon left. Its outcomes do not count for the present one."""
        start, public_bytes = resume_position(spool, self._public_log.sizes())
        self._follower.follow(EARLIER_LIFE, spool, start, public_bytes=public_bytes)

    async def run(self) -> None:
        """Reads until cancelled; then reads what is left, for a short while."""
        try:
            while True:
                if not await self._turn():
                    await self._follower.wait()
        except asyncio.CancelledError:
            await self._drain()
            raise
        finally:
            self._follower.close(last=self._public_log.close)

    def lines(
        self,
        count: int,
        *,
        level: Level | None = None,
        outcome: str | None = None,
        generation: int | None = None,
        since: float | None = None,
    ) -> LogPage:
        """Recent lines, oldest first.

        :param count: at most so many, and at most 5,000
        :param level: this loud or louder: debug, info, warning, error
        :param outcome: only lines that mean this
        :param generation: only lines of this engine
        :param since: a `seq` (int) or an instant (float, seconds since the epoch): the oldest lines from there on;
            the newest when None
        """
        wanted = LineFilter(level, outcome, generation)
        count = max(0, min(count, PAGE_LINES))
        return self._ring.latest(count, wanted) if since is None else self._ring.since(since, count, wanted)

    def tail(self, count: int, *, generation: int) -> tuple[str, ...]:
        """The last lines of a generation, redacted, also those that were written a moment ago and not read yet."""
        unread, is_gapless = self._follower.unread(TAIL_BYTES, generation=generation) or (b"", True)
        if not is_gapless:
            return texts_of(screen(unread).data)[-count:]
        waiting = b"".join(data for of, data in self._pieces if of == generation)
        shown = self._reading.peek(generation, waiting + unread)
        before = self._ring.latest(count, LineFilter(generation=generation)).lines
        return (*(line.text for line in before), *texts_of(shown.data))[-count:]

    def findings(self, generation: int) -> tuple[Finding, ...]:
        """What befell this generation, the latest first."""
        return self._reading.findings(generation)

    def troubles(self) -> tuple[Finding, ...]:
        """What keeps the log itself from being read or written now."""
        at, mono = self._clock.wall(), self._clock.mono()
        said = (("log_unreadable", self._follower.trouble), ("log_unwritable", self._public_log.trouble))
        return tuple(Finding(outcome, trouble, mono, at) for outcome, trouble in said if trouble)

    def marks(self, generation: int) -> frozenset[str]:
        """The steps of a healthy life seen in this generation: running_on_gpu, running_on_cpu, loaded, …"""
        return self._reading.marks(generation)

    def reopen(self) -> None:
        """Opens the public file anew (SIGHUP, after an operator's logrotate)."""
        self._public_log.reopen()

    async def _turn(self) -> bool:
        """Reads once and does all that follows from it. False when there was nothing to read."""
        lines = await self._follower.read()
        self._tell_trouble()
        if lines is None:
            return False
        await self._take(lines)
        return True

    async def _take(self, lines: Lines) -> None:
        if lines.start.is_private:
            self._reading.go_on(lines.generation, is_private=True)
        self._generation = lines.generation
        is_private = int(self._reading.left_private(lines.generation))
        self._written_to = replace(lines.start, is_private=is_private)
        self._read_to, self._public_bytes = lines.end, lines.public_bytes
        if lines.skipped_lines:
            self._note_skip(lines.skipped_lines)
        self._is_behind = self._follower.lag_bytes > BEHIND_BYTES
        self._pieces.extend((lines.generation, piece) for piece in pieces(lines.data, PIECE_BYTES))
        await self._pass_on()

    async def _pass_on(self) -> None:
        """Looks through what was read and writes it. Cancelled, it can be called again and goes on."""
        began_mono = self._clock.mono()
        while self._pieces:
            self._unwritten.append(self._admit(*self._pieces.popleft()))
            if self._pieces and self._clock.mono() - began_mono > TURN_S:
                await asyncio.sleep(0)
                began_mono = self._clock.mono()
        await self._follower.free(after=self._writing())
        for notice in (*self._public_log.take_notices(), *self._notices):
            if notice != self._told_notice:
                self._log.warning("engine_log_file", message=notice)
            self._told_notice = notice
        self._notices.clear()

    def _writing(self) -> Callable[[], None]:
        """What writes all that was looked through into the public file."""
        data, done = b"".join(self._unwritten), self._public_bytes
        self._unwritten.clear()
        self._public_bytes = 0
        if not data:
            return lambda: None
        return partial(self._public_log.write, data[done:], self._noting(), done)

    def _noting(self) -> Callable[[PublicPart], None]:
        """What notes beside the spool how far it has been copied, for the block that is about to be written."""
        note, before = self._follower.note, self._written_to
        after = replace(self._read_to, is_private=int(self._reading.left_private(self._generation)))

        def write(part: PublicPart) -> None:
            try:
                if note:
                    note.write(before, after, part)
            except OSError as error:  # the copy goes on: only a SIGKILL of the daemon would double lines now
                self._notices.append(
                    f"How far the engine's log was copied cannot be noted: {error.strerror}."
                )

        return write

    def _admit(self, generation: int, piece: bytes) -> bytes:
        at = self._clock.wall()
        screened = self._reading.read(generation, piece, at=at, mono=self._clock.mono())
        block = LogBlock(
            self._ring.next_seq, at, generation, screened.data, screened.n_lines, screened.matches
        )
        self._ring.append(block)
        self._passed_on.write_engine(block, only_telling=self._is_behind)
        return block.data

    def _tell_outcome(self, generation: int, found: Finding) -> None:
        tell = self._log.error if found.severity == "error" else self._log.warning
        tell(
            "engine_outcome",
            outcome=found.outcome,
            severity=found.severity,
            message=found.sentence,
            count=found.count,
            generation=generation,
            lines=list(found.lines),
        )

    def _note_skip(self, n: int) -> None:
        self.skipped_lines += n
        self._log.warning(
            "engine_log_skipped", lines=n, reason="the engine wrote faster than its log can be copied"
        )
        self._unwritten.append(SKIP_NOTE % n)

    def _tell_trouble(self) -> None:
        for notice in self._follower.take_notices():
            self._log.warning("engine_log_raw", message=notice)
        trouble = self._follower.trouble
        if trouble and trouble != self._told_trouble:
            self._log.warning("engine_log_unreadable", message=trouble)
        self._told_trouble = trouble
        if self._follower.is_polling and not self._is_polling_told:
            self._is_polling_told = True
            self._log.warning(
                "engine_log_polled",
                reason="inotify cannot be had (fs.inotify.max_user_instances or max_user_watches may be used up); "
                "the log is looked at 20 times a second instead",
            )

    async def _drain(self) -> None:
        end_mono = self._clock.mono() + DRAIN_S
        await self._pass_on()
        while self._clock.mono() < end_mono and (lines := await self._follower.read()) is not None:
            await self._take(lines)
        if not self._follower.lag_bytes:
            await self._take(self._follower.finish())
