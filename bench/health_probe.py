"""Asks one path at even intervals on one kept connection, as a process of its own.

    python -m bench.health_probe PORT PATH PERIOD_S

While one reply is late, the requests that were due meanwhile are late with it: each counts as answered by that reply,
from the instant at which it was due; a probe that only counted what it sent would hardly see a pause. How late the
probe itself woke is not the daemon's, and is given apart; where it may, it runs before all others. It ends when its
stdin is closed, and then says what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Final

TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 1 << 20
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def main(port: int, path: str, period_s: float) -> None:
    """Ask until stdin ends; then print `[[due, latency, own lateness], …]` in nanoseconds of the monotonic clock."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    seen: list[tuple[int, int, int]] = []
    period_ns = int(period_s * 1e9)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due_ns = time.monotonic_ns()
        while not _is_over(due_ns):
            sent_ns = time.monotonic_ns()
            connection.sendall(request)
            _read_answer(connection)
            came_ns = time.monotonic_ns()
            seen.append((due_ns, came_ns - sent_ns, sent_ns - due_ns))
            due_ns += period_ns
            while due_ns <= came_ns:
                seen.append((due_ns, came_ns - due_ns, 0))
                due_ns += period_ns
    json.dump(seen, sys.stdout)


def _read_answer(connection: socket.socket) -> None:
    """Read one answer whole.

    :raises RuntimeError: it is no 200
    """
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise RuntimeError(f"answered {answer.decode(errors='replace')}")
    while len(body) < int(length[1]):
        body += _more(connection)


def _more(connection: socket.socket) -> bytes:
    chunk = connection.recv(READ_BYTES)
    if not chunk:
        raise RuntimeError("hung up in an answer")
    return chunk


def _is_over(due_ns: int) -> bool:
    wait_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


if __name__ == "__main__":
    _, port, path, period_s = sys.argv
    main(int(port), path, float(period_s))
