"""The waiting process that ends the engine when the daemon dies, however it dies.

A `sh` in its own session holds the read end of a pipe whose only write end is the daemon's. At EOF it execs the
sweep of strays.py, told nothing but the marker (facts/process.md §4a: 0.4 MiB, 0 survivors of 200, no cost on the
restart path). As PID 1 it is not needed: the kernel ends the namespace with us.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from arasul_supervisor.supervision import strays

if TYPE_CHECKING:
    import asyncio

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.init import Reaper

_SCRIPT = 'trap "" HUP INT QUIT TERM; read -r _; exec "$0" -I -S "$1" "$2"'


class Guardian:
    """Owns the guardian process: starts it, replaces it when it dies, takes it along at the end."""

    def __init__(self, marker: str, reaper: Reaper, log: EventLog) -> None:
        self._marker, self._reaper, self._log = marker, reaper, log
        self._pid: int | None = None
        self._pidfd: int | None = None
        self._write_end: int | None = None

    def start(self) -> None:
        """Start the guardian; call it before the first spawn of the engine.

        :raises OSError: it cannot be started
        """
        read_end, self._write_end = os.pipe()
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, sys.executable, os.path.abspath(strays.__file__), self._marker],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            os.close(self._write_end)
            self._write_end = None
            raise
        finally:
            os.close(read_end)
        process.returncode = 0  # reaped here, never by Popen
        self._reaper.own(process.pid)
        self._pid, self._pidfd = process.pid, os.pidfd_open(process.pid)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Replace the guardian from now on whenever it dies."""
        if self._pidfd is not None:
            loop.add_reader(self._pidfd, self._replace, loop)

    def _replace(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pidfd is not None:
            self._log.warning("guardian_died", pid=self._pid, decision="a new guardian is started")
            loop.remove_reader(self._pidfd)
        self._reap()
        try:
            self.start()
        except OSError as error:
            self._log.error("guardian_failed", error=str(error))
            loop.call_later(1.0, self._replace, loop)
            return
        self.watch(loop)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the guardian; the engine must be gone by now."""
        if self._pidfd is None:
            return
        loop.remove_reader(self._pidfd)
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        if self._pid is None or self._pidfd is None:
            return
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._reaper.disown(self._pid)
        os.close(self._pidfd)
        if self._write_end is not None:
            os.close(self._write_end)
        self._pid = self._pidfd = self._write_end = None
