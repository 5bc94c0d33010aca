"""A sampler alone in a process of its own, with its loop's pauses measured: `sampler_program ROOT PERIOD_S`.

Writes `{"pids":[…]}` when it has looked once at everything, and for each line on stdin what has happened since the
last: `{"longest_wall_ms":…,"longest_cpu_ms":…}`. Ends, cancelled, with stdin, and writes how long that took.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.events import Handle
from pathlib import Path
from typing import Any

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.telemetry.gpu.child_source import ChildSource
from arasul_supervisor.telemetry.gpu.kinds import nvml_kind, tegra_kind
from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from arasul_supervisor.telemetry.sampler import PERIOD_S, Sampler
from tests.engine.telemetry_ground import BoardSettings, Diary, Pids


class Pauses:
    """The longest callback of the loop since it was last asked, by the wall and by processor time."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def install(self) -> None:
        """Time every callback from now on."""
        run = Handle._run

        def timed(handle: Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            run(handle)
            self.wall_s = max(self.wall_s, time.perf_counter() - wall)
            self.cpu_s = max(self.cpu_s, time.thread_time() - cpu)

        Handle._run = timed  # type: ignore[method-assign,assignment]  # the one place that all callbacks pass

    def take(self) -> dict[str, float]:
        """What was seen, in milliseconds."""
        seen = {"longest_wall_ms": self.wall_s * 1000, "longest_cpu_ms": self.cpu_s * 1000}
        self.wall_s = self.cpu_s = 0.0
        return seen


async def main(root: Path, period_s: float) -> None:
    """Sample until stdin ends."""
    clock, pids, pauses = SystemClock(), Pids(), Pauses()
    limits = SourceLimits(period_s=period_s, init_s=min(30.0, 6 * period_s), look_again_s=6 * period_s)
    sources = [
        ChildSource(kind, root, clock, Diary(), own=pids.own, disown=pids.disown, limits=limits)
        for kind in (nvml_kind(), tegra_kind())
    ]
    sampler = Sampler(
        BoardSettings(root), clock, os.getppid, log=Diary(), own=pids.own, disown=pids.disown,
        sources=sources, period_s=period_s,
    )  # fmt: skip
    task = asyncio.create_task(sampler.run())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while not _has_looked(sampler.stats(clock.mono())):  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    print(json.dumps({"pids": sorted(pids.owned)}), flush=True)
    pauses.install()
    while await reader.readline():
        print(json.dumps(pauses.take()), flush=True)
    began = time.monotonic()
    task.cancel()
    await asyncio.wait((task,))
    print(json.dumps({"end_s": time.monotonic() - began, "owned": sorted(pids.owned)}), flush=True)


def _has_looked(stats: Any) -> bool:  # Any: JSON
    return bool(stats["timestamp"]) and all(source["state"] for source in stats["gpu_sources"])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else PERIOD_S))
