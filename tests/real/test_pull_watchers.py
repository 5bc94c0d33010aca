"""Guards CONTRACT §4 pulls: fifty watchers of one pull cost one download and no memory, also those that never read."""

from __future__ import annotations

import contextlib
import json
import random
import re
import select
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.registry import Registry

BLOB = random.Random("watched").randbytes(8_000_000)
BYTES_PER_S = 4_000_000.0  # 2 s for the blob
MAX_GROWTH_BYTES = 4 * 1024 * 1024
NARROW_BYTES = 4096  # of a receive buffer: what a watcher that never reads can hold is soon full


@dataclass(slots=True)
class Watcher:
    """One stream of the pull."""

    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)

    def last_line(self) -> bytes:
        """Read to the end; the last line of the body, without the frame of its chunk."""
        self.connection.settimeout(20)
        while content := self.connection.recv(65_536):
            self.received += content
        return re.findall(rb"\{.*\}", bytes(self.received))[-1]  # type: ignore[no-any-return]


@dataclass(slots=True)
class Audience:
    """All watchers of the pull of one model."""

    daemon: Daemon
    name: str
    opened: contextlib.ExitStack
    watchers: list[Watcher] = field(default_factory=list)

    def join(self, n: int = 1) -> list[Watcher]:
        """So many more watch."""
        joined = [self._open() for _ in range(n)]
        self.watchers += joined
        return joined

    def read_for(self, seconds: float, watchers: list[Watcher]) -> None:
        """These read what comes, the others nothing."""
        by_socket = {watcher.connection: watcher for watcher in watchers}
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            for ready in select.select(list(by_socket), [], [], left_s)[0]:
                by_socket[ready].received += ready.recv(65_536)

    def _open(self) -> Watcher:
        connection = self.opened.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        connection.connect(("127.0.0.1", self.daemon.port))
        body = json.dumps({"model": self.name, "insecure": True}).encode()
        head = (
            "POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return Watcher(connection)


@pytest.fixture
def audience(daemon: DaemonFactory, engine_binary: Path, registry: Registry) -> Iterator[Audience]:
    """A pull that takes two seconds, and its first watcher."""
    running = daemon(engine=engine_binary).wait_ready(limit_s=60)
    name = registry.put_bytes("watched", BLOB)
    registry.switches.bytes_per_s = BYTES_PER_S
    with contextlib.ExitStack() as opened:
        made = Audience(running, name, opened)
        made.join()
        running.wait_for(lambda: jobs(running)[:1] != [] and jobs(running)[0]["completed"] > 0, what="bytes")
        yield made


def jobs(running: Daemon) -> list[dict[str, int]]:
    """All jobs."""
    found: list[dict[str, int]] = running.get("/api/models/pulls").json()["pulls"]
    return found


def rss_bytes(running: Daemon) -> int:
    """What the daemon has in memory."""
    status = Path(f"/proc/{running.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_fifty_watchers_all_see_the_success(audience: Audience) -> None:
    audience.join(49)
    audience.read_for(0.5, audience.watchers[10:])
    lasts = {watcher.last_line() for watcher in audience.watchers}
    assert lasts == {b'{"status":"success"}'}


def test_fifty_watchers_cost_one_download(audience: Audience, registry: Registry) -> None:
    audience.join(49)
    for watcher in audience.watchers:
        watcher.last_line()
    unique_bytes = sum(map(len, next(iter(registry.models.values())).blobs.values()))
    assert registry.requests("manifest") == 1
    assert registry.looks() <= 1
    assert sum(entry.sent_bytes for entry in registry.ranges()) == unique_bytes
    assert len(jobs(audience.daemon)) == 1


def test_fifty_watchers_of_whom_ten_never_read_leave_the_memory_flat(audience: Audience) -> None:
    audience.read_for(0.2, audience.watchers)
    alone_bytes = rss_bytes(audience.daemon)
    audience.join(49)
    audience.read_for(0.7, audience.watchers[10:])
    grown_bytes = rss_bytes(audience.daemon) - alone_bytes
    print(f"alone {alone_bytes} bytes, with fifty {grown_bytes} more")
    assert jobs(audience.daemon)[0]["completed"] < len(BLOB)  # it was measured while the pull ran
    assert grown_bytes < MAX_GROWTH_BYTES


def test_who_comes_late_sees_where_it_stands_and_the_success(audience: Audience) -> None:
    audience.join(49)
    audience.read_for(1.0, audience.watchers[10:])
    late = audience.join()[0]
    last = late.last_line()
    firsts = [json.loads(line) for line in re.findall(rb"\{.*\}", bytes(late.received))]
    assert last == b'{"status":"success"}'
    assert firsts[0]["completed"] > BYTES_PER_S / 2
