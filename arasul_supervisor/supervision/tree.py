"""The end of a whole tree: nothing of a generation is alive when this says so.

Order (facts/process.md §3): SIGKILL to the group while its leader is still unreaped, for afterwards the number can
belong to a stranger; `waitid(P_PGID)` until ECHILD; then what left the group but carries our marker.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.child import ExitStatus
from arasul_supervisor.supervision.init import children_of_self
from arasul_supervisor.supervision.process_stat import stat_of
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
    is_over: bool = False
    dying: set[int] | None = None

    def advance(self, reaper: Reaper) -> bool:
        """Kill and reap what there is, without waiting; True when nothing of the tree is left.

        Without a free descriptor nobody can look for escapees: then it is not known, and looked at again.
        """
        if not self.is_group_gone:
            self.is_group_gone = self._reap_group(reaper)
        try:
            self.is_over = self._end_escapees(reaper) == 0 and self.is_group_gone
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            return False
        return self.is_over

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
        """SIGKILL what left the group, came to us as an orphan and carries our marker; how many are left.

        A dying process loses its environment long before its memory: what was killed here, and what was dying
        already at the first look, is waited for until it can be reaped.
        """
        adopted = reaper.living_adopted()
        if self.dying is None:
            self.dying = {pid for pid in adopted if (stat := stat_of(pid)) is not None and stat.is_exiting}
        marked = {pid for pid in adopted if pid not in self.dying and carries(pid, self.marker)}
        for pid in marked:
            _kill(pid)
        self.dying |= marked
        return len(self.dying.intersection(adopted))


def _kill(pid: int) -> None:
    """SIGKILL an orphan of ours; nobody else reaps it, so the number is its own."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _status_of(ended: os.waitid_result) -> ExitStatus:
    if ended.si_code == os.CLD_EXITED:
        return ExitStatus(ended.si_status, None)
    return ExitStatus(None, ended.si_status)
