"""What an earlier life left behind: found for certain by the marker in its environment, and ended.

Standard library only and no import of our own: the guardian runs this very file by itself
(`python -I -S strays.py MARK`) after the daemon has died.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from dataclasses import dataclass

MARKER_VARIABLE = "ARASUL_MARKER"
"""In the engine's environment, inherited by all it starts: `<installation>:<nonce of this life>`."""

_PAUSE_S = 0.05
_QUIET_SWEEPS = 3
"""A child between fork and exec still shows its parent's environment: the last carrier of a daemon that died
in mid-spawn showed after 57 ms (measured), so three sweeps 50 ms apart must find nothing."""


@dataclass(frozen=True)
class Stray:
    """One process that carries the marker: its pid, `comm` and what the kernel says it waits on."""

    pid: int
    command: str
    waits_on: str


def sweep(marker: str, *, bound_s: float) -> tuple[list[int], list[Stray]]:
    """End every process whose marker begins with `marker`.

    :param marker: a whole marker, or `<installation>:` for all lives of an installation
    :returns: the pids that are gone, and the strays still alive after `bound_s` seconds
    """
    deadline = time.monotonic() + bound_s
    ended: list[int] = []
    while True:
        living = carriers(marker)
        if not living:
            return ended, []
        ended += [pid for pid in living if kill_and_wait(pid, marker, deadline)]
        if time.monotonic() >= deadline:
            return ended, [describe(pid) for pid in carriers(marker)]


def carriers(marker: str) -> list[int]:
    """Pids of living processes whose marker begins with `marker`; zombies have no environment and do not count."""
    own = os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if pid != own and carries(pid, marker)]


def carries(pid: int, marker: str) -> bool:
    """True when the environment of `pid` at its exec held a marker that begins with `marker`."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:  # gone, a zombie, or another user's
        return False
    wanted = f"{MARKER_VARIABLE}={marker}".encode()
    return environment.startswith(wanted) or b"\0" + wanted in environment


def kill_and_wait(pid: int, marker: str, deadline: float) -> bool:
    """SIGKILL `pid` through a pidfd, after looking again that it is the same; True when it is gone in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        if not carries(pid, marker):
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return is_gone(pidfd, deadline)
    except OSError:  # ESRCH: it ended by itself
        return True
    finally:
        os.close(pidfd)


def is_gone(pidfd: int, deadline: float) -> bool:
    """True once the process is dead; it need not be a child of ours."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def describe(pid: int) -> Stray:
    """What can be told of a process that does not die: state D names the kernel function it sleeps in."""
    return Stray(pid, _read(f"/proc/{pid}/comm") or "?", _read(f"/proc/{pid}/wchan") or "unknown")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def main(marker: str) -> int:
    """The guardian's work: sweep until nothing with this marker has been seen three times in a row."""
    quiet = 0
    while quiet < _QUIET_SWEEPS:
        ended, living = sweep(marker, bound_s=1.0)
        quiet = 0 if ended or living else quiet + 1
        time.sleep(_PAUSE_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
