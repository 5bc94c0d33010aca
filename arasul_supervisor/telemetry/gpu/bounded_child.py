"""The lines of a child that may hang in a driver, until a deadline; then it is killed, or left behind.

An open or a library call on a sick GPU can sleep uninterruptibly (facts/gpu.md §3.5): never in this process.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from arasul_supervisor.line_child.spawn import reap, spawn_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from arasul_supervisor.line_child.spawn import Spawned

FAREWELL_S: Final = 0.2  # a healthy child is gone 2 ms after SIGKILL
_ASKED_AGAIN_S: Final = 0.1
_MOST_BYTES: Final = 4 << 20


@contextmanager
def lines_of(
    command: tuple[str, ...],
    *,
    timeout_s: float,
    environ: Mapping[str, str] | None = None,
    gives_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lines]:
    """The child's lines as they come.

    :param gives_up: asked ten times a second whether the lines are still wanted
    :raises OSError: no child could be started
    """
    child = spawn_child(command, environ)
    try:
        with suppress(BrokenPipeError):  # it has ended already: what it said is in the other pipe
            os.write(child.requests_fd, b"\n")  # for a program that waits for one; harmless to others
        yield Lines(child.answers_fd, deadline_mono=time.monotonic() + timeout_s, gives_up=gives_up)
    finally:
        _bury(child)


class Lines:
    """What the child writes, line by line. `has_ended`: it closed its stdout; else the time was over first."""

    def __init__(self, fd: int, *, deadline_mono: float, gives_up: Callable[[], bool]) -> None:
        """Read from that descriptor until then, or until nobody wants it any more."""
        self._fd, self._gives_up = fd, gives_up
        self._deadline_mono = deadline_mono
        self.has_ended = False

    def __iter__(self) -> Iterator[bytes]:
        """Each line once."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        buffer, size = b"", 0
        while (left_s := self._deadline_mono - time.monotonic()) > 0 and size < _MOST_BYTES:
            if not poll.poll(min(left_s, _ASKED_AGAIN_S) * 1000):
                if self._gives_up():
                    return
                continue
            chunk = os.read(self._fd, 65536)
            if not chunk:
                self.has_ended = True
                return
            size += len(chunk)
            *lines, buffer = (buffer + chunk).split(b"\n")
            yield from lines


def _bury(child: Spawned) -> None:
    """One in state D outlives SIGKILL: whoever reaps orphans takes it when the kernel lets go of it."""
    child.kill()
    os.close(child.requests_fd)
    os.close(child.answers_fd)
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    if poll.poll(FAREWELL_S * 1000):
        reap(child.pidfd)
    os.close(child.pidfd)
