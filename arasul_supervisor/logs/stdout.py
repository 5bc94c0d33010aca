"""Passes lines on to stdout without ever waiting for who reads it.

A blocked pipe can be met by a thread only: O_NONBLOCK would be set for everybody who shares the pipe, the engine's
children included (facts/process.md §8).
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

from arasul_supervisor.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.meaning.levels import Level
    from arasul_supervisor.logs.ring import LogBlock

LogFormat = Literal["console", "json"]

LIMIT_BYTES: Final = 1024 * 1024
RESERVE_BYTES: Final = 256 * 1024  # beyond the limit, for the engine's lines that mean something
READY_WAIT_MS: Final = 1_000
BROKEN_PAUSE_S: Final = 1.0
NOTE_DELAY_S: Final = 1.0  # dropped lines are said after this, if no line takes the note along before
WAKE: Final = ""
CONSOLE_PREFIX: Final = b"ollama | "
PRIORITIES: Final = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
}  # sd-daemon(3), syslog's


def log_format_for(log_format: str, fd: int = 1) -> LogFormat:
    """`auto` is console on a terminal and JSON otherwise; the other words are themselves."""
    if log_format == "auto":
        return "console" if os.isatty(fd) else "json"
    return "console" if log_format == "console" else "json"


def is_journal(environ: Mapping[str, str], fd: int = 1) -> bool:
    """True when the descriptor is systemd's journal: it names device and inode of what it reads (systemd.exec(5))."""
    try:
        seen = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


class StdoutWriter:
    """A bounded queue and a thread that writes it. What does not fit is dropped, counted, and said afterwards.

    It is said behind the next line that gets through, or a second after a reader is back.
    """

    def __init__(
        self,
        *,
        log_format: LogFormat,
        clock: Clock,
        fd: int = 1,
        limit_bytes: int = LIMIT_BYTES,
        has_priorities: bool = False,
    ) -> None:
        """Keep a descriptor of our own: whoever closes the given one does not make us write into another file.

        :param limit_bytes: bytes that may wait to be written
        :param has_priorities: begin each line with its priority as the journal reads it, such as `<4>`
        """
        self._log_format = log_format
        self.has_priorities = has_priorities
        self._clock = clock
        self._limit_bytes = limit_bytes
        try:
            self._fd = os.dup(fd)
        except OSError:  # started with stdout closed
            self._fd = -1
        self._queue: SimpleQueue[str | LogBlock | None] = SimpleQueue()
        self._given_bytes = 0  # written by the callers only
        self._taken_bytes = 0  # written by the thread only
        self._dropped_before = 0  # dropped for want of room: by the callers only
        self._dropped_after = 0  # dropped for want of a reader: by the thread only
        self._told = 0
        self._is_torn = False  # the last line has no end
        self._broken_until_mono = 0.0
        self._thread: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        """True when a person's terminal reads."""
        return self._fd >= 0 and os.isatty(self._fd)

    @property
    def dropped_lines(self) -> int:
        """Lines that never reached stdout."""
        return self._dropped_before + self._dropped_after

    def write(self, line: str, level: Level = "info") -> None:
        """Takes one line of the daemon, without its end; one with a traceback in it is several for the journal."""
        if self.has_priorities:
            line = "\n".join(PRIORITIES[level] + part for part in line.split("\n"))
        self._put(f"{line}\n", len(line) + 1, 1)

    def write_engine(self, block: LogBlock, *, only_telling: bool = False) -> None:
        """Takes lines of the engine; they are made ready by the thread.

        :param only_telling: only the lines that mean something are wanted; so it is also when there is no room for all
        """
        if only_telling or not self._has_room(len(block.data)):
            told = block.only_telling()
            self._drop(block.n_lines - told.n_lines)
            block = told
        if block.n_lines:
            self._put(block, len(block.data), block.n_lines, reserve_bytes=RESERVE_BYTES)

    def close(self, *, timeout_s: float) -> None:
        """Writes what waits, for so long at most. A reader that does not read cannot hold us."""
        thread, self._thread = self._thread, None
        if thread:
            self._queue.put(None)
            thread.join(timeout_s)
            if thread.is_alive():
                return  # it sits in a write; the descriptor is its own until the process ends
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _has_room(self, size: int) -> bool:
        return self._fd >= 0 and self._given_bytes - self._taken_bytes + size <= self._limit_bytes

    def _drop(self, n_lines: int) -> None:
        if not n_lines:
            return
        self._dropped_before += n_lines
        if self.dropped_lines - n_lines <= self._told and self._thread:
            self._queue.put(WAKE)

    def _put(self, item: str | LogBlock, size: int, n_lines: int, *, reserve_bytes: int = 0) -> None:
        if not self._has_room(size - reserve_bytes):
            self._drop(n_lines)
            return
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="stdout", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had (a limit of pids): tried again with the next line
                self._dropped_before += n_lines
                return
            self._thread = thread
        self._given_bytes += size
        self._queue.put(item)

    def _run(self) -> None:
        while (item := self._next_item()) is not None:
            if item == WAKE:
                continue
            if isinstance(item, str):
                self._write_all(item.encode(errors="replace"), 1)
                self._taken_bytes += len(item)
            else:
                self._write_all(self._render(item), item.n_lines)
                self._taken_bytes += len(item.data)
        self._write_all(b"", 0)

    def _next_item(self) -> str | LogBlock | None:
        """What to write next; while it is awaited, what was dropped is said."""
        while self.dropped_lines > self._told:
            try:
                return self._queue.get(timeout=NOTE_DELAY_S)
            except Empty:
                self._write_all(b"", 0)
        return self._queue.get()

    def _write_all(self, data: bytes, n_lines: int) -> None:
        if time.monotonic() < self._broken_until_mono:
            self._dropped_after += n_lines
            return
        n_dropped = self.dropped_lines
        start = b"\n" if self._is_torn else b""
        note = self._note(n_dropped - self._told) if n_dropped > self._told else b""
        if not data and not note:
            return
        view = memoryview(start + data + note)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the shared pipe non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(READY_WAIT_MS)
            except OSError:  # EPIPE: the reader is gone, a fifo may get another; ENOSPC: stdout is a file
                self._broken_until_mono = time.monotonic() + BROKEN_PAUSE_S
                written = len(start) + len(data) + len(note) - len(view)
                self._dropped_after += data.count(b"\n", max(0, written - len(start)))
                if written:
                    self._is_torn = not (start + data + note)[:written].endswith(b"\n")
                return
        self._told, self._is_torn = n_dropped, False

    def _render(self, block: LogBlock) -> bytes:
        if self._log_format == "console" and not self.has_priorities:
            return CONSOLE_PREFIX + block.data[:-1].replace(b"\n", b"\n" + CONSOLE_PREFIX) + b"\n"
        at, lines = rfc3339(block.at), []
        for index, text in enumerate(block.texts()):
            level = block.level_of(index, text)
            outcome = block.outcome_of(index)
            if self._log_format == "console":
                line = f"{CONSOLE_PREFIX.decode()}{text}"
            else:
                told = f'"outcome":"{outcome}",' if outcome else ""
                line = (
                    f'{{"at":"{at}","source":"ollama","generation":{block.generation},"level":"{level}",'
                    f'"event":"engine_line",{told}"text":{json.dumps(text)}}}'
                )
            lines.append(f"{PRIORITIES[level] if self.has_priorities else ''}{line}\n")
        return "".join(lines).encode(errors="replace")

    def _note(self, n_lines: int) -> bytes:
        priority = PRIORITIES["warning"].encode() if self.has_priorities else b""
        if self._log_format == "console":
            words = b"arasul-supervisor: %d lines dropped: stdout was not read fast enough\n" % n_lines
            return priority + words
        note = {
            "at": rfc3339(self._clock.wall()),
            "source": "arasul",
            "level": "warning",
            "event": "stdout_lines_dropped",
            "lines": n_lines,
        }
        return priority + json.dumps(note).encode() + b"\n"
