"""The engine's first start, made before its owner is imported: asyncio and all that stands on it take 60 ms.

Standard library only, and of that what is small. What must be true at every start (lifecycle.py) is made true here by
hand: no stray is left, the guardian waits, orphans come to us.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.launch_plan import LaunchPlan
from arasul_supervisor.logs.spool import SpoolFolder
from arasul_supervisor.ollama.environment import GpuMemory
from arasul_supervisor.supervision import strays
from arasul_supervisor.supervision.child import Started, spawn
from arasul_supervisor.supervision.guardian import Guardian
from arasul_supervisor.supervision.init import Reaper, become_subreaper
from arasul_supervisor.supervision.lock import installation_prefix, marker_of_this_life
from arasul_supervisor.telemetry.gpu.launch_memory import memory_at_launch
from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.daemon_log import DaemonLog
    from arasul_supervisor.process_ground import EarlySignals
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.strays import Stray

EXIT_ASKED: Final = 0
EXIT_CANNOT_RUN: Final = 71

_STRAYS_S: Final = 5.0


class FirstStart:
    """Makes the start, and keeps what it needed for the daemon.

    `started` is None where nothing was: strays survived, the launch failed (the engine's owner tries again, and tells
    why), or somebody asked us to end. `leftovers`: raw logs of earlier lives.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        early: EarlySignals,
        clock: Clock,
        log: DaemonLog,
    ) -> None:
        """Derive what the engine is started with.

        :raises CannotRunHere: the state folder cannot be written
        """
        self._early, self._clock, self._log = early, clock, log
        self.marker = marker_of_this_life(settings.state_dir)
        self.reaper = Reaper()
        self.guardian = Guardian(self.marker, self.reaper, log)
        at_launch = memory_at_launch(settings, settings.state_dir, gives_up=lambda: early.asked is not None)
        if at_launch.trouble:
            log.warning("gpu_memory_unknown", sentence=at_launch.trouble)
        self.gpu_memory = GpuMemoryBook(settings.state_dir, at_launch)
        self.spools = SpoolFolder(settings.state_dir / "spool")
        self.plan = LaunchPlan(
            settings,
            environ,
            marker=self.marker,
            spools=self.spools,
            gpus=lambda: [GpuMemory(gpu.total_bytes, gpu.available_bytes) for gpu in self.gpu_memory.gpus],
            log=log,
        )
        self.leftovers: list[Path] = []
        self.survivors: list[Stray] = []
        self.started: Started | None = None

    def make(self) -> None:
        """Take the duties of a parent, end what an earlier life left, and spawn.

        :raises CannotRunHere: the folder of the raw log cannot be used
        :raises OSError: there can be no guardian
        """
        signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # as we came it may be ignored: exit statuses would be lost
        become_subreaper()
        ended, self.survivors = strays.sweep(installation_prefix(self.marker), bound_s=_STRAYS_S)
        if ended:
            self._log.warning("strays_ended", pids=ended, decision="an earlier life had left them behind")
        self.leftovers = self.spools.leftovers()  # nobody writes there any more
        if self._early.asked is not None:
            return
        if os.getpid() != 1:
            self.guardian.start()
        if not self.survivors:
            self._spawn()

    def _spawn(self) -> None:
        at, mono = self._clock.wall(), self._clock.mono()
        try:
            child = spawn(self.plan.prepare(1), generation=1, reaper=self.reaper)
        except (ArasulError, OSError):
            return
        self.started = Started(child, at, mono)
