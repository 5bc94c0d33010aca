"""The duties of a parent of orphans: as PID 1 and as sub-reaper, adopt and reap without stealing an exit status.

Being sub-reaper is what makes `waitid(P_PGID) → ECHILD` mean "the whole group is gone" (facts/process.md §3, §5).
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.process_stat import stat_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_CHILDREN = "/proc/self/task/{}/children"
_MAX_BYTES = 16 * 1024
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h, since Linux 3.4


def become_subreaper() -> None:
    """Make orphans of our descendants our children. Needs no privilege.

    :raises OSError: the kernel refuses
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def children_of_self() -> list[int]:
    """Pids of our children, zombies too. The kernel hangs orphans below our main thread, from which we spawn too.

    Where it lacks `children` (CONFIG_PROC_CHILDREN) the parents of all processes are looked at.

    :raises OSError: no descriptor is left
    """
    try:
        with open(_CHILDREN.format(os.getpid()), "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        return _children_by_scan()


def _children_by_scan() -> list[int]:
    own = os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if (stat := stat_of(pid)) is not None and stat.parent_pid == own]


class Reaper:
    """Reaps the children that nobody here owns, and wakes those who wait for the death of their own.

    A child that was started on purpose is registered with `own` in the same synchronous stretch as its spawn:
    the loop cannot run in between, so its exit status is never taken from its owner.
    """

    def __init__(self) -> None:
        self._owned: set[int] = set()
        self._is_look_due = False
        self._waiting: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._children_fd = -1

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen for SIGCHLD on `loop`; what died before is looked for at once."""
        with suppress(OSError):  # no CONFIG_PROC_CHILDREN: then each look is a longer one
            self._children_fd = os.open(_CHILDREN.format(os.getpid()), os.O_RDONLY | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop.add_signal_handler(signal.SIGCHLD, self._look_soon, loop)
        # A storm of deaths fills the loop's wake-up pipe: it is awake then, and needs no complaint for each.
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        self._look_soon(loop)

    def uninstall(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop listening."""
        loop.remove_signal_handler(signal.SIGCHLD)
        if self._children_fd >= 0:
            os.close(self._children_fd)
            self._children_fd = -1

    def own(self, pid: int) -> None:
        """Leave this child's exit status to its owner."""
        self._owned.add(pid)

    def disown(self, pid: int) -> None:
        """The owner has taken the status, or left the child to us."""
        self._owned.discard(pid)

    def is_owned(self, pid: int) -> bool:
        """True for a child that somebody here started on purpose."""
        return pid in self._owned

    def listen(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a child died, stopped or went on."""
        self._listeners.append(callback)

    async def next_change(self, limit_s: float) -> None:
        """Return at the next death, stop or continuation of a child, or after `limit_s` seconds."""
        import asyncio  # not before the first spawn, see first_start.py

        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait((future,), timeout=limit_s)
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def reap_adopted(self) -> None:
        """Take the status of every dead child that nobody owns. SIGCHLD coalesces, so all are looked at."""
        with suppress(OSError):  # no descriptor left: the next SIGCHLD or look finds them still
            self.living_adopted()

    def living_adopted(self) -> list[int]:
        """Pids of the children that nobody owns and that live; the dead ones are reaped.

        :raises OSError: no descriptor is left
        """
        return [pid for pid in self._children() if pid not in self._owned and not self._reap(pid)]

    def _children(self) -> list[int]:
        """As `children_of_self`, from the file that stays open: a look stands before each start."""
        if self._children_fd < 0:
            return children_of_self()
        listed = b""  # a page at a time, whatever room there is (fs/seq_file.c)
        while part := os.pread(self._children_fd, _MAX_BYTES, len(listed)):
            listed += part
        return [int(pid) for pid in listed.split()]

    @staticmethod
    def _reap(pid: int) -> bool:
        """True when it was dead."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def _look_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look once for all the signals of this turn: asyncio calls for each, and a look sees all deaths."""
        if not self._is_look_due:
            self._is_look_due = True
            loop.call_soon(self._something_changed)

    def _something_changed(self) -> None:
        self._is_look_due = False
        self.reap_adopted()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for callback in self._listeners:
            callback()
