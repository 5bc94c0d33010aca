"""The start of a child of our own, and its reaping. Standard library only: the first one comes before the engine."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Spawned:
    """A fresh child: its pid, a pidfd, and our ends of its stdin and stdout. All descriptors are the caller's."""

    pid: int
    pidfd: int
    requests_fd: int
    answers_fd: int

    def kill(self) -> None:
        """SIGKILL to it and to whatever a library started in its session. For as long as it is not reaped."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def spawn_child(command: tuple[str, ...], environ: Mapping[str, str] | None = None) -> Spawned:
    """Start the child in its own session, with two pipes and nothing else of ours. Call it from the main thread.

    PDEATHSIG follows the thread that spawned. `posix_spawn` has no object that reaps behind the back of the daemon's
    reaper, and waits for no pipe (facts/process.md §2); what our own parent left inheritable the child closes itself.

    :param environ: the child's whole environment; ours when None
    :raises OSError: no process or descriptor left; a child without a pidfd ends with its stdin
    """
    with ExitStack() as ours, ExitStack() as childs:
        child_in, requests_fd = os.pipe()
        childs.callback(os.close, child_in)
        ours.callback(os.close, requests_fd)
        answers_fd, child_out = os.pipe()
        childs.callback(os.close, child_out)
        ours.callback(os.close, answers_fd)
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ if environ is None else environ,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, child_in, 0),
                (os.POSIX_SPAWN_DUP2, child_out, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ),
            setsid=True,
        )
        os.set_blocking(requests_fd, False)
        os.set_blocking(answers_fd, False)
        spawned = Spawned(pid, os.pidfd_open(pid), requests_fd, answers_fd)
        ours.pop_all()
        return spawned


def reap(pidfd: int) -> str | None:
    """Take the exit status if there is one; how it ended in a word, None while it lives."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return "reaped by somebody else"
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return f"exit code {ended.si_status}"
    try:
        return signal.Signals(ended.si_status).name
    except ValueError:  # a real-time signal
        return f"signal {ended.si_status}"
