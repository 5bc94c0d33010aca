"""One generation of the engine: spawned into its own session, held by a pidfd, never reaped behind our back.

By `posix_spawn`: an object of `subprocess` would reap first, which frees the group's number while members live
(facts/process.md §2.1), and what it does around its fork costs 0.15 ms after a pause.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from arasul_supervisor.supervision.process_stat import stat_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.supervision.init import Reaper

_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute: the command, its whole environment, and the file that its output is appended to."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    spool: Path


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: an exit `code`, or the `signal` that ended it."""

    code: int | None
    signal: int | None

    @property
    def sentence(self) -> str:
        """`exited with code 1`, `killed by signal 9 (SIGKILL)`."""
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = "unknown"
        return f"killed by signal {self.signal} ({name})"


@dataclass(frozen=True, slots=True)
class Child:
    """A spawned generation. Its group and session carry the number of its pid."""

    generation: int
    pid: int
    pidfd: int
    launch: Launch

    def signal(self, number: signal.Signals) -> None:
        """Signal the leader alone; nothing happens when it is dead already."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def is_stopped(self) -> bool:
        """True while the leader is stopped (state T or t), as SIGSTOP and tracers leave it."""
        stat = stat_of(self.pid)
        return stat is not None and stat.state in ("T", "t")

    def close(self) -> None:
        """Give the pidfd back."""
        os.close(self.pidfd)


class Started(NamedTuple):
    """A child, and when its start began: seconds since the epoch, and of the monotonic clock."""

    child: Child
    at: float
    mono: float


def spawn(launch: Launch, *, generation: int, reaper: Reaper) -> Child:
    """Start a generation: new session, stdin from /dev/null, both outputs on the spool, nothing else of ours.

    Our own descriptors are closed by its exec, those that we came with too: see process_ground.py.

    :param reaper: told the pid before the loop can run, so that nobody else takes the exit status
    :raises OSError: no such program, not executable, no descriptor left; nothing runs then
    """
    spool_fd = os.open(launch.spool, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        pid = os.posix_spawn(
            launch.command[0],
            launch.command,
            launch.environment,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, spool_fd, 1),
                (os.POSIX_SPAWN_DUP2, spool_fd, 2),
            ),
            setsid=True,
            setsigdef=_IGNORED_BY_PYTHON,
        )
    finally:
        os.close(spool_fd)
    reaper.own(pid)
    try:
        child = Child(generation, pid, os.pidfd_open(pid), launch)
    except OSError:  # no descriptor left: what cannot be watched must not run
        os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitid(os.P_PGID, pid, os.WEXITED) is not None:
                continue
        reaper.disown(pid)
        raise
    os.sched_yield()  # it was born on our processor, and would wait for all that we do next: 1 ms and more
    return child
