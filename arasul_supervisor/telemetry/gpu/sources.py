"""All sources of GPU figures of this box: which there are, and that each goes on when another fails."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.child_source import ChildSource
from arasul_supervisor.telemetry.gpu.kinds import jtop_kind, nvml_kind, tegra_kind
from arasul_supervisor.telemetry.gpu.none import NoGpu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.telemetry.gpu.gpu_settings import GpuSettings
    from arasul_supervisor.telemetry.gpu.kinds import Kind
    from arasul_supervisor.telemetry.gpu.readings import GpuSource, SourceReport
    from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits

_FAREWELL_S: Final = 0.9


def sources_for(
    settings: GpuSettings,
    clock: Clock,
    log: EventLog,
    *,
    own: Callable[[int], None],
    disown: Callable[[int], None],
    limits: SourceLimits | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[GpuSource, ...]:
    """The sources that ARASUL_GPU and ARASUL_JTOP ask for. Starts nothing.

    :param own: told the pid of each child as it is spawned: nobody else may reap it
    :param disown: told it when it is reaped, or left to whoever reaps orphans
    :param environ: the children's environment; the daemon's when None
    """
    if settings.gpu == "none":
        return (NoGpu(settings.gpu, clock.mono()),)
    kinds: list[Kind] = []
    if settings.gpu != "tegra":
        kinds.append(nvml_kind(looks_anyway="ARASUL_GPU is nvml" if settings.gpu == "nvml" else ""))
    if settings.gpu != "nvml":
        kinds.append(tegra_kind())
    if settings.jtop:
        kinds.append(jtop_kind())
    return tuple(
        ChildSource(
            kind,
            settings.sysroot,
            clock,
            log,
            own=own,
            disown=disown,
            limits=limits,
            environ=environ,
        )
        for kind in kinds
    )


class GpuSources:
    """Runs the sources side by side; one that ends by a fault of ours is said, and started again."""

    def __init__(self, sources: Sequence[GpuSource], log: EventLog, *, restart_s: float) -> None:
        """Start nothing yet.

        :param restart_s: pause before a source that ended by itself runs again
        """
        self._sources, self._log, self._restart_s = tuple(sources), log, restart_s

    def reports(self) -> tuple[SourceReport, ...]:
        """What is known, from memory."""
        return tuple(source.report() for source in self._sources)

    async def look_again(self, *, timeout_s: float) -> None:
        """Have all look now, and wait for their answers; where none comes, `timeout_s` is all it costs."""
        await asyncio.wait([source.look_again() for source in self._sources], timeout=timeout_s)

    async def run(self) -> None:
        """Look again and again until cancelled; ends within a second then."""
        tasks = [
            asyncio.create_task(self._run_one(source), name=f"gpu-source-{source.report().source}")
            for source in self._sources
        ]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_FAREWELL_S)

    async def _run_one(self, source: GpuSource) -> None:
        while True:
            try:
                await source.run()
            except Exception as error:  # a line of a shape that nobody has seen must not end the telemetry
                self._log.error("telemetry_failed", traceback="".join(traceback.format_exception(error)))
            await asyncio.sleep(self._restart_s)
