"""The quiet heartbeat of a running engine: one question a second, on a connection of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from arasul_supervisor.bounded import within

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT_BYTES: Final = 16 * 1024
_REQUEST: Final = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""Answered by Go's HTTP server itself on both engine generations, without a line in the access log."""


class Heartbeat:
    """Asks the engine once a second whether it still turns."""

    def __init__(
        self, host: str, port: int, report: Callable[[bool], None], *, period_s: float = 1.0
    ) -> None:
        """Prepare to beat.

        :param report: called once a period: True for an answer in time, False for none
        """
        self._host, self._port, self._report, self._period_s = host, port, report, period_s
        self._line: _Line | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                self._report(await self._beat(began + self._period_s))
                await asyncio.sleep(max(0.0, self._period_s - (loop.time() - began)))
        finally:
            self._hang_up()

    async def _beat(self, end: float) -> bool:
        try:
            head = await self._head_of_answer(end)
        except (OSError, asyncio.TimeoutError):
            self._hang_up()
            return False
        if b"content-length: 0\r\n" not in head.lower():
            self._hang_up()  # a body that we do not read would be the next answer
        return True

    async def _head_of_answer(self, end: float) -> bytes:
        if self._line is not None:
            try:
                return await self._line.ask(end)
            except ConnectionError:
                if self._line.has_answered:
                    raise
                self._hang_up()  # it had hung up since the last beat, as servers do
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(_Line, self._host, self._port)
        _, line = await within(connecting, end - loop.time())
        self._line = line
        return await line.ask(end)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.hang_up()
        self._line = None


class _Line(asyncio.Protocol):
    """One connection. Not a stream, which costs two tasks for each question: half of an idle daemon's work.

    It is not listened to between two questions: its end would be heard just before that of the process, and stand
    between that and the next start.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._head = b""

    @property
    def has_answered(self) -> bool:
        """True when something of the last answer has come."""
        return bool(self._head)

    async def ask(self, end: float) -> bytes:
        """The head of the answer, or its first 16 KiB.

        :param end: time of the loop by which it must be there
        :raises asyncio.TimeoutError: it is not
        :raises ConnectionError: the engine hung up
        """
        loop = asyncio.get_running_loop()
        self._head, self._answer = b"", loop.create_future()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("hung up")
        timer = loop.call_at(end, self._fail, asyncio.TimeoutError())
        try:
            self._transport.resume_reading()
            self._transport.write(_REQUEST)
            return await self._answer
        finally:
            timer.cancel()
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def hang_up(self) -> None:
        """Close it, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # asyncio's own, of a TCP connection

    def data_received(self, data: bytes) -> None:
        self._head += data
        is_whole = b"\r\n\r\n" in self._head or len(self._head) >= _LIMIT_BYTES
        if is_whole and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("hung up"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
