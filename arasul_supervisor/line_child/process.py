"""A child of ours as the loop sees it: requests, lines, its end, and letting go of one that will not end."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.line_child.spawn import reap, spawn_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_LINE_BYTES: Final = 1024 * 1024  # 8 cards with 7 instances each and 1,000 processes are 40 KiB

_REAPED_S: Final = 0.2


class ChildSilent(Exception):
    """The child did not answer in time."""


class ChildEnded(Exception):
    """The child is gone, or speaks no JSON."""


class ChildProcess:
    """One child, from its spawn to its reaping. All methods belong to the loop's thread."""

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        source: str,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        environ: Mapping[str, str] | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """Spawn it.

        :param source: what it asks, for what is said about it
        :param own: told the pid before the loop can run, so that the daemon's reaper leaves its status to us
        :param disown: told the pid when it is reaped, or when we gave up on it
        :param max_line_bytes: of one that writes more without a newline no more is read
        :raises OSError: nothing was started
        """
        self._loop = asyncio.get_running_loop()
        self._child = spawn_child(command, environ)
        own(self._child.pid)
        self._disown = disown
        self._what = f"The {source} child {self._child.pid}"
        self._ending = ""
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._has_pipes = True
        self._news: asyncio.Future[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._child.answers_fd, self._read)
        self._loop.add_reader(self._child.pidfd, self._end_seen)

    @property
    def pid(self) -> int:
        """Its pid in our namespace."""
        return self._child.pid

    def ask(self, request: bytes = b"") -> None:
        """Request one line. At most one request, of 4 KiB at most, is ever unanswered, so the pipe has room."""
        try:
            os.write(self._child.requests_fd, request + b"\n")
        except OSError:  # it is gone: the next `line` says so
            return

    async def line(self, *, timeout_s: float) -> dict[str, Any]:  # Any: JSON
        """Its next line.

        :raises ChildSilent: none in time
        :raises ChildEnded: there will be none
        """
        deadline_mono = self._loop.time() + timeout_s
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._has_pipes or self.ended.done():
                raise ChildEnded(await self._end_in_words())
            left_s = deadline_mono - self._loop.time()
            if left_s <= 0:
                raise ChildSilent(f"{self._what} did not answer within {timeout_s:g} s.")
            await self._wait_for_news(left_s)
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise ChildEnded(f"{self._what} wrote something that is not JSON.")
        return line

    def kill(self) -> None:
        """Kill it; the loop reaps it."""
        self._close_pipes()
        if not self.ended.done():
            self._child.kill()

    async def end(self, *, timeout_s: float) -> bool:
        """Kill it and wait; True when it is gone and reaped. One in state D outlives even SIGKILL."""
        self.kill()
        if not self.ended.done():
            await asyncio.wait((self.ended,), timeout=timeout_s)
        return self.ended.done()

    def let_go(self) -> None:
        """Forget it, dead or alive: whoever reaps orphans takes it from here."""
        self._close_pipes()
        if not self.ended.done():
            self._forget()
            self.ended.cancel()

    async def _end_in_words(self) -> str:
        """Its pipe closes a moment before it can be reaped."""
        await asyncio.wait((self.ended,), timeout=_REAPED_S)
        return f"{self._what} ended without an answer ({self._ending or 'how is not known'})."

    async def _wait_for_news(self, timeout_s: float) -> None:
        """Until something arrives. Not `wait_for`: up to 3.11 it can swallow a cancellation."""
        self._news = self._loop.create_future()
        try:
            await asyncio.wait((self._news,), timeout=timeout_s)
        finally:
            self._news = None

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _read(self) -> None:
        try:
            chunk = os.read(self._child.answers_fd, 65536)
        except BlockingIOError:
            return
        self._buffer += chunk
        if not chunk or len(self._buffer) > self._max_line_bytes:
            self._close_pipes()
        self._tell()

    def _end_seen(self) -> None:
        if self._has_pipes:
            self._read()  # what it wrote before it died
        self._child.kill()  # what it leaves behind in its session goes with it
        ending = reap(self._child.pidfd)
        if ending is None:
            return
        self._ending = ending
        self._forget()
        self.ended.set_result(None)
        self._tell()

    def _forget(self) -> None:
        self._loop.remove_reader(self._child.pidfd)
        os.close(self._child.pidfd)
        self._disown(self._child.pid)

    def _close_pipes(self) -> None:
        if self._has_pipes:
            self._has_pipes = False
            self._loop.remove_reader(self._child.answers_fd)
            os.close(self._child.requests_fd)
            os.close(self._child.answers_fd)
