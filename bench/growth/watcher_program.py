"""Many watchers of one daemon in a process of their own: `watcher_program KIND PORT COUNT SPAN_S MODEL`.

Kinds: `pull` follows the pull of MODEL to its end, `deaf` asks for it and reads nothing, `health` and `logs` ask once
a second, spread over the second. Writes `{}` once all are connected, and when the span is over, or the pull, what they
saw: `{"n":…,"late_ms":[…],"took_s":…}`. `late_ms`: of a line since the engine wrote it, of an answer since it was due.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEAF_BUFFER_BYTES: Final = 4096
LIMIT_BYTES: Final = 1 << 22
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PAUSE_S: Final = 1.0


@dataclass(slots=True)
class Seen:
    """What all of them saw. `n`: lines of a pull, or lines of the log that were missed."""

    n: int = 0
    late_ms: list[float] = field(default_factory=list)
    took_s: float = 0.0


async def main(kind: str, port: int, count: int, span_s: float, model: str) -> None:
    """Connect, tell, watch, tell."""
    seen, connected = Seen(), asyncio.Semaphore(0)
    watch = {"pull": follow_pull, "deaf": be_deaf, "health": poll_health, "logs": poll_logs}[kind]
    began_s = time.monotonic()
    watchers = [
        asyncio.create_task(watch(Watcher(port, index / count, span_s, model, seen, connected.release)))
        for index in range(count)
    ]
    for _ in watchers:
        await connected.acquire()
    print("{}", flush=True)
    await asyncio.gather(*watchers)
    seen.took_s = time.monotonic() - began_s
    print(json.dumps(asdict(seen)), flush=True)


@dataclass(frozen=True, slots=True)
class Watcher:
    """One of them. `phase`: its place in the second."""

    port: int
    phase: float
    span_s: float
    model: str
    seen: Seen
    connected: Callable[[], None]

    async def connect(
        self, *, buffer_bytes: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own."""
        sock = socket.socket()
        if buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=sock, limit=buffer_bytes or LIMIT_BYTES)

    def pull_request(self) -> bytes:
        """The request for the pull."""
        body = json.dumps({"model": self.model, "insecure": True}).encode()
        head = f"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


async def follow_pull(watcher: Watcher) -> None:
    """Read until the last line; a line's `completed` is when the engine wrote it, see the fake engine's `stamped`."""
    reader, writer = await watcher.connect()
    writer.write(watcher.pull_request())
    is_connected = False
    try:
        while line := await reader.readline():
            now_ns = time.monotonic_ns()
            if not line.startswith(b"{"):  # the head, and the sizes of chunks
                continue
            if not is_connected:
                is_connected = True
                watcher.connected()
            said = json.loads(line)
            if "error" in said:
                raise RuntimeError(f"the pull failed: {said}")
            watcher.seen.n += 1
            if "digest" in said:
                watcher.seen.late_ms.append(now_ns / 1e6 - said["completed"] / 1e3)
            if said["status"] == "success":
                return
    finally:
        writer.transport.abort()
    raise RuntimeError("the stream ended before the pull")


async def be_deaf(watcher: Watcher) -> None:
    """Ask, and read nothing but what the smallest buffers take."""
    reader, writer = await watcher.connect(buffer_bytes=DEAF_BUFFER_BYTES)
    writer.write(watcher.pull_request())
    await reader.readline()
    watcher.connected()
    try:
        await asyncio.sleep(watcher.span_s)
    finally:
        writer.transport.abort()


async def poll_health(watcher: Watcher) -> None:
    """Once a second."""

    async def ask(exchange: Callable[[str], Awaitable[bytes]], due_s: float) -> None:
        await exchange("/health")
        watcher.seen.late_ms.append((time.monotonic() - due_s) * 1e3)

    await _poll(watcher, ask)


async def poll_logs(watcher: Watcher) -> None:
    """Once a second, going on where the last page ended; `n` counts the lines that were missed by it."""
    since = json.loads(await _exchange_once(watcher, "/api/logs?lines=1"))["next"]

    async def ask(exchange: Callable[[str], Awaitable[bytes]], due_s: float) -> None:
        nonlocal since
        page = json.loads(await exchange(f"/api/logs?lines=5000&since={since}"))
        watcher.seen.late_ms.append((time.monotonic() - due_s) * 1e3)
        since = page["next"]
        watcher.seen.n += page["dropped"]

    await _poll(watcher, ask)


async def _poll(
    watcher: Watcher, ask: Callable[[Callable[[str], Awaitable[bytes]], float], Awaitable[None]]
) -> None:
    reader, writer = await watcher.connect()

    async def exchange(path: str) -> bytes:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise RuntimeError(f"{path} answered {head.decode(errors='replace')}")
        return await reader.readexactly(int(length[1]))

    watcher.connected()
    due_s = time.monotonic() + watcher.phase * PAUSE_S
    end_s = time.monotonic() + watcher.span_s
    try:
        while due_s < end_s:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await ask(exchange, due_s)
            due_s += PAUSE_S
    finally:
        writer.transport.abort()


async def _exchange_once(watcher: Watcher, path: str) -> bytes:
    reader, writer = await watcher.connect()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.transport.abort()


if __name__ == "__main__":
    kind, port, count, span_s, model = sys.argv[1:]
    asyncio.run(main(kind, int(port), int(count), float(span_s), model))
