"""One life of the log's reading side, as a process that a test can kill: `log_copier.py FOLDER LIFE MAX_BYTES [N]`.

Given N, it meets a file system without holes, and empties its spool from N bytes on.

It goes on with what earlier lives left, then follows the spool of its own life, and says `begun` before. Like the
daemon it ends by SIGTERM, having read what is left.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs import spool
from arasul_supervisor.logs.daemon_log import DaemonLog
from arasul_supervisor.logs.engine_log import EngineLog
from arasul_supervisor.logs.public_log import PublicLog
from arasul_supervisor.logs.spool import SpoolFolder

if TYPE_CHECKING:
    from arasul_supervisor.logs.ring import LogBlock


class _Nobody:
    """Takes what is passed on."""

    def write_engine(self, block: LogBlock, *, only_telling: bool) -> None:
        """Look away."""


async def _copy(folder: Path, life: str, max_bytes: int) -> None:
    public = PublicLog(folder / "ollama.log", max_bytes=max_bytes, keep=1000, clock=SystemClock())
    own_log = DaemonLog(SystemClock())
    log = EngineLog(public, _Nobody(), clock=SystemClock(), log=own_log)
    spools = SpoolFolder(folder / "spool", life=life)
    for left in spools.leftovers():
        log.resume(left)
    log.follow(1, spools.path_for(1))
    task = asyncio.create_task(log.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    print("begun", flush=True)
    await asyncio.wait((task,))
    own_log.flush_plain()


def _refuse_holes(empty_from_bytes: str) -> None:
    spool.punch_hole = lambda *_: False
    spool.PUNCH_BYTES = spool.EMPTY_FROM_BYTES = int(empty_from_bytes)  # type: ignore[misc]  # final elsewhere


if __name__ == "__main__":
    if len(sys.argv) > 4:
        _refuse_holes(sys.argv[4])
    asyncio.run(_copy(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
