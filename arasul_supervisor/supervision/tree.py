"""The end of a whole tree: nothing of a generation is alive when this says so.

Order (facts/process.md §3): SIGKILL to the group while its leader is still unreaped, for afterwards the number can
belong to a stranger; `waitid(P_PGID)` until ECHILD; then what left the group but carries our marker.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.child import ExitStatus
from arasul_supervisor.supervision.init import children_of_self
from arasul_supervisor.supervision.strays import Stray, carries, describe

if TYPE_CHECKING:
    from arasul_supervisor.supervision.child import Child
    from arasul_supervisor.supervision.init import Reaper

_SPIN_S = 0.002
"""Small groups are gone within this: waiting for SIGCHLD instead would cost a turn of the loop (measured)."""
_LOOK_AGAIN_S = 0.05


@dataclass(slots=True)
class TreeEnd:
    """How far the end of one tree has come. The owner's alone; `status` is the leader's, once it is reaped."""

    child: Child
    marker: str
    status: ExitStatus | None = None
    is_killed: bool = False
    is_group_gone: bool = False

    def advance(self, reaper: Reaper) -> bool:
        """Kill and reap what there is, without waiting; True when nothing of the tree is left.

        Without a free descriptor nobody can look for escapees: then it is not known, and looked at again.
        """
        if not self.is_group_gone:
            self.is_group_gone = self._reap_group(reaper)
        try:
            return self._end_escapees(reaper) == 0 and self.is_group_gone
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            return False

    def advance_spinning(self, reaper: Reaper) -> bool:
        """As `advance`, again and again for at most two milliseconds."""
        deadline = time.monotonic() + _SPIN_S
        while not self.advance(reaper):
            if time.monotonic() >= deadline:
                return False
            os.sched_yield()
        return True

    async def finish(self, reaper: Reaper, bound_s: float) -> bool:
        """Wait until the tree is gone; False when something survives SIGKILL for `bound_s` seconds."""
        deadline = time.monotonic() + bound_s
        while not self.advance(reaper):
            if time.monotonic() >= deadline:
                return False
            await reaper.next_change(_LOOK_AGAIN_S)
        return True

    def survivors(self) -> list[Stray]:
        """What is still alive, with what it waits on."""
        pids = [] if self.is_group_gone else [self.child.pid]
        pids += [pid for pid in children_of_self() if pid != self.child.pid and carries(pid, self.marker)]
        return [describe(pid) for pid in pids]

    def _reap_group(self, reaper: Reaper) -> bool:
        """True when the group is empty.

        It is killed once, before its leader is reaped: the kernel lets no fork slip through, and later the number
        may be a stranger's.
        """
        pgid = self.child.pid
        try:
            if not self.is_killed:
                self.is_killed = True
                os.killpg(pgid, signal.SIGKILL)
            while (ended := os.waitid(os.P_PGID, pgid, os.WEXITED | os.WNOHANG)) is not None:
                if ended.si_pid == pgid:
                    self.status = _status_of(ended)
                    reaper.disown(pgid)
        except (ChildProcessError, ProcessLookupError):
            return True
        return False

    def _end_escapees(self, reaper: Reaper) -> int:
        """SIGKILL what left the group, came to us as an orphan and carries our marker; how many are left."""
        left = 0
        for pid in children_of_self():
            if reaper.is_owned(pid) or not carries(pid, self.marker):
                continue
            left += 1
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                continue
            finally:
                os.close(pidfd)
        return left


def _status_of(ended: os.waitid_result) -> ExitStatus:
    if ended.si_code == os.CLD_EXITED:
        return ExitStatus(ended.si_status, None)
    return ExitStatus(None, ended.si_status)
