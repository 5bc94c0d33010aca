"""Readiness by an answered request of this very generation, and the quiet heartbeat afterwards.

A TCP connect proves nothing: Ollama listens before it serves (facts/ollama.md §2.3).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import within
from arasul_supervisor.supervision.ports import listener_among
from arasul_supervisor.supervision.runners import descendants

if TYPE_CHECKING:
    from collections.abc import Callable

_RETRY_S: Final = 0.01
_FOREIGN_S: Final = 0.5  # somebody else answers there: no need to hurry
_LIMIT_BYTES: Final = 16 * 1024
_VERSION_REQUEST: Final = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_BEAT_REQUEST: Final = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""Answered by Go's HTTP server itself on both engine generations, without a line in the access log."""


async def answered_version(host: str, port: int, pid: int) -> str:
    """Wait until the engine with this pid answers `GET /api/version`, and return the version it names.

    A connect is tried every 10 ms; once connected the request is kept pending, so that the answer is seen the
    instant it comes. An answer counts only if `pid` holds the listening socket: another Ollama on the port must
    not be taken for ours. Never returns while there is no such answer; the caller sets the limit.
    """
    while True:
        version = await _ask_version(host, port)
        if version is not None and _is_ours(pid, port):
            return version
        await asyncio.sleep(_RETRY_S if version is None else _FOREIGN_S)


def _is_ours(pid: int, port: int) -> bool:
    """True when the engine or, below a wrapper script, one of its children holds the listening socket."""
    return listener_among((pid, *descendants(pid)), port) is not None


async def _ask_version(host: str, port: int) -> str | None:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=_LIMIT_BYTES)
    except OSError:
        return None
    try:
        writer.write(_VERSION_REQUEST)
        answer = await reader.read(_LIMIT_BYTES)
        while (more := await reader.read(_LIMIT_BYTES)) and len(answer) < _LIMIT_BYTES:
            answer += more
        return _version_in(answer)
    except OSError:
        return None
    finally:
        writer.transport.abort()


def _version_in(answer: bytes) -> str | None:
    """The version in `HTTP/1.1 200 OK…\\r\\n\\r\\n{"version":"0.34.4"}`; None for anything else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    version = value.get("version") if isinstance(value, dict) else None
    return version if isinstance(version, str) else None


class Heartbeat:
    """Asks the engine once a second, on a connection of its own, whether it still turns."""

    def __init__(
        self, host: str, port: int, report: Callable[[bool], None], *, period_s: float = 1.0
    ) -> None:
        """Prepare to beat.

        :param report: called once a period: True for an answer in time, False for none
        """
        self._host, self._port, self._report, self._period_s = host, port, report, period_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                self._report(await self._beat())
                await asyncio.sleep(max(0.0, self._period_s - (loop.time() - began)))
        finally:
            self._hang_up()

    async def _beat(self) -> bool:
        try:
            await within(self._exchange(), self._period_s)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            self._hang_up()
            return False
        except asyncio.LimitOverrunError:  # it answers, though not with what was asked for
            self._hang_up()
        return True

    async def _exchange(self) -> None:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self._hang_up()
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=_LIMIT_BYTES
            )
        self._writer.write(_BEAT_REQUEST)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if (
            b"content-length: 0\r\n" not in head.lower()
        ):  # a body that we do not read would be the next answer
            self._hang_up()

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
