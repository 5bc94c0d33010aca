"""Speaking to a port byte by byte, as no HTTP library would."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One response as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """The number of the status line."""
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().lower() == name.lower():
                return value.decode().strip()
        return None

    def json(self) -> Any:  # Any: tests look into it freely
        """The body as JSON."""
        return json.loads(self.body)


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, limit_s: float = LIMIT_S, has_body: bool = True) -> RawAnswer:
        """The next response, its body taken by Content-Length, by chunks, or up to the end."""
        return await asyncio.wait_for(self._answer(has_body=has_body), limit_s)

    async def rest(self, *, limit_s: float = LIMIT_S) -> bytes:
        """Everything up to the end of the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), limit_s)
        except ConnectionError:
            return b""

    async def _answer(self, *, has_body: bool) -> RawAnswer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        answer = RawAnswer(head[:-4], b"")
        if not has_body or answer.status in (100, 204, 304):
            return answer
        if (length := answer.header("Content-Length")) is not None:
            return RawAnswer(answer.head, await self.reader.readexactly(int(length)))
        if answer.header("Transfer-Encoding") == "chunked":
            return RawAnswer(answer.head, await self._chunks())
        return RawAnswer(answer.head, await self.reader.read())

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return body


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, limit_s: float = LIMIT_S) -> None:
    """Return once the condition holds, looking every 5 ms; fail past the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        await asyncio.sleep(0.005)
    pytest.fail(f"not within {limit_s:g} s")


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[RawClient]:
    """A connection to a port of this host."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


async def ask(
    port: int,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    headers: str = "",
    limit_s: float = LIMIT_S,
) -> RawAnswer:
    """One request on a connection of its own.

    :param headers: lines, each with its end
    """
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n"
    async with connection(port) as client:
        await client.send(head.encode("latin-1") + (body or b""))
        return await client.answer(limit_s=limit_s, has_body=method != "HEAD")
