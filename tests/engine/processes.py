"""Finding processes by what stands in their environment, and free ports."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest

# below the range from which the kernel and Ollama's runners draw theirs, so that none is taken before its use
_ALL_PORTS = range(20_000, 32_000)
# of those the ones that no process beside this one picks: pytest-xdist counts them, gw0, gw1, ...
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PORTS = _ALL_PORTS[_WORKER::_WORKERS]
# each once before any comes again: the two ports of one daemon differ
_NEXT_PORTS = itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))


def pick_free_port() -> int:
    """A port that nobody listens on."""
    for port in itertools.islice(_NEXT_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"No free port among 200 tries between {_ALL_PORTS[0]} and {_ALL_PORTS[-1]}.")


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    return pick_free_port()


def pids_with(text: str) -> dict[int, str]:
    """Living processes, apart from this one, whose environment holds the text, with their command lines."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environ = Path(f"/proc/{name}/environ").read_bytes()
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in environ:
            found[int(name)] = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return found


def wait_until_none_with(text: str, *, limit_s: float) -> dict[int, str]:
    """Wait until no process carries the text; what is still there at the limit."""
    end = time.monotonic() + limit_s
    while (found := pids_with(text)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def kill_all_with(text: str) -> None:
    """SIGKILL everything that carries the text, until nothing does."""
    end = time.monotonic() + 10
    while (found := pids_with(text)) and time.monotonic() < end:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: object, *, limit_s: float, what: str) -> None:
    """Wait until the callable says yes, looking every 5 ms; fails with `what` at the limit."""
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {limit_s:g} s")
        time.sleep(0.005)
