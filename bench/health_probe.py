"""Asks /health at even intervals on one kept connection, as a process of its own: `python -m bench.health_probe PORT`.

A reply is counted from the instant at which its request was due: while one reply is late, the requests behind it are
late with it, and a probe that only counted from its own sending would not see that. How late the probe itself woke
is not the daemon's, and is given apart. It ends when its stdin is closed, and then says what it saw as JSON.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

PERIOD_S = 0.02
TIMEOUT_S = 10.0


def main(port: int) -> None:
    """Ask until stdin ends; then print `[[due, latency, own lateness], …]` in nanoseconds of the monotonic clock."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    seen: list[tuple[int, int, int]] = []
    period_ns = int(PERIOD_S * 1e9)
    due_ns, free_ns = time.monotonic_ns(), 0
    while not _is_over(due_ns):
        sent_ns = time.monotonic_ns()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"/health answered {answer.status}: {body.decode(errors='replace')}")
        came_ns = time.monotonic_ns()
        is_behind = free_ns > due_ns
        late_ns = 0 if is_behind else sent_ns - due_ns
        seen.append((due_ns, came_ns - due_ns - late_ns, late_ns))
        free_ns, due_ns = came_ns, due_ns + period_ns
    json.dump(seen, sys.stdout)


def _is_over(due_ns: int) -> bool:
    wait_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


if __name__ == "__main__":
    main(int(sys.argv[1]))
