"""The telemetry of the box: looks at host and GPU every five seconds, answers from memory."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.none import NoGpu
from arasul_supervisor.telemetry.gpu.nvml import NvmlSource
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_view import free_gpu_bytes, gpu_entries, view_gpus
from arasul_supervisor.telemetry.host import cpu_percent, read_host, read_memory
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.offload import Offload
from arasul_supervisor.telemetry.process_figures import read_own, read_tree
from arasul_supervisor.telemetry.stats import Known, Look, stats_payload
from arasul_supervisor.telemetry.store_disk import read_store_disk
from arasul_supervisor.telemetry.thermal import read_temperatures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.telemetry.gpu.probe import GpuSettings
    from arasul_supervisor.telemetry.gpu.readings import GpuSource
    from arasul_supervisor.telemetry.gpu_check import GpuCheck
    from arasul_supervisor.telemetry.gpu_view import GpuView
    from arasul_supervisor.telemetry.machine import Machine
    from arasul_supervisor.telemetry.store_disk import StoreDisk

PERIOD_S: Final = 5.0
_READ_LIMIT_S: Final = 1.0
_SOURCE_FAREWELL_S: Final = 0.9
_FILES_FAREWELL_S: Final = 0.05  # a read that takes longer is left to its thread, which ends with the process


class Sampler:
    """Owns what telemetry knows."""

    def __init__(
        self,
        settings: GpuSettings,
        clock: Clock,
        engine_pid: Callable[[], int | None],
        *,
        log: EventLog,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        store: Path | None = None,
        source: GpuSource | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        """Start nothing yet.

        :param engine_pid: the leader of the engine's tree, None while there is none
        :param own: told the pid of each child of telemetry as it is spawned: nobody else may reap it
        :param disown: told it when it is reaped, or left to whoever reaps orphans
        :param store: the folder of the models, whose disk is watched; none when None
        :param source: where GPU figures come from; chosen by `settings.gpu` when None
        """
        self._root, self._clock, self._engine_pid, self._log = settings.sysroot, clock, engine_pid, log
        self._period_s = period_s
        self._stale_after_s = max(10.0, 3 * period_s)
        self._source = source or _source_for(settings, clock, log, own=own, disown=disown)
        self._proc_files = Offload("telemetry-procfs")
        self._zone_files = Offload("telemetry-thermal")
        self._store_files = Offload("telemetry-store")  # may lie on a network, and hang there
        self._store = store
        self.store_disk: StoreDisk | None = None
        """The disk of the models, as last seen."""
        self._machine: Machine | None = None
        self._look: Look | None = None
        self._zones: tuple[float, Mapping[str, float | None]] | None = None

    async def run(self) -> None:
        """Look again and again until cancelled; ends within a second then."""
        source: asyncio.Task[None] | None = None
        try:
            while True:
                source = source or asyncio.create_task(self._source.run(), name="gpu-source")
                await self._look_around()
                await asyncio.wait((source,), timeout=self._period_s)
                if source.done():
                    self._say_unexpected(source.exception())
                    source = None
                    await asyncio.sleep(self._period_s)
        finally:
            if source is not None:
                source.cancel()
                await asyncio.wait((source,), timeout=_SOURCE_FAREWELL_S)
            await self._proc_files.settle(timeout_s=_FILES_FAREWELL_S)
            await self._zone_files.settle(timeout_s=_FILES_FAREWELL_S)
            await self._store_files.settle(timeout_s=_FILES_FAREWELL_S)

    async def refresh(self, *, timeout_s: float) -> None:
        """Have the GPU looked at now and wait for the answer; where none comes, `timeout_s` is all it costs."""
        await asyncio.wait((self._source.look_again(),), timeout=timeout_s)

    def stats(self, now_mono: float) -> Mapping[str, object]:
        """The body of `/api/stats` at `now_mono`, from memory."""
        look, zones = self._look, self._zones
        oldest_mono = now_mono - self._stale_after_s
        return stats_payload(
            Known(
                now_mono=now_mono,
                view=self._view(now_mono),
                machine=self._machine,
                last_look=look,
                host_look=look if look and look.taken_mono >= oldest_mono else None,
                temperatures=zones[1] if zones and zones[0] >= oldest_mono else None,
                engine_pid=self._engine_pid(),
            )
        )

    def gpu_check(self) -> GpuCheck:
        """The health point `gpu`, from memory. It knows nothing of an engine that fell back to the CPU."""
        now_mono = self._clock.mono()
        return check_gpus(self._view(now_mono), now_mono=now_mono)

    def free_bytes(self) -> int | None:
        """Free memory of all GPUs together; MemAvailable, read now, where the GPU shares it or there is none."""
        view = self._view(self._clock.mono())
        host = read_memory(self._root)  # procfs and cgroupfs alone: 0.1 ms
        if not view.readings:
            return host.available_bytes if host else None
        return free_gpu_bytes(gpu_entries(view, host))

    def _view(self, now_mono: float) -> GpuView:
        return view_gpus(self._source.report(), now_mono=now_mono, stale_after_s=self._stale_after_s)

    async def _look_around(self) -> None:
        """One period's reads of the host; what cannot be read in time grows old instead."""
        pid, before = self._engine_pid(), self._look
        try:
            look = await self._proc_files.call(lambda: self._read(pid, before), timeout_s=_READ_LIMIT_S)
            self._look = look or self._look
            zones = await self._zone_files.call(
                lambda: read_temperatures(self._root), timeout_s=_READ_LIMIT_S
            )
            if zones is not None:
                self._zones = (self._clock.mono(), zones)
            if self._store is not None:
                await self._look_at_store(self._store)
        except Exception as error:  # a file of a shape that nobody has seen must not end the telemetry
            self._say_unexpected(error)

    async def _look_at_store(self, store: Path) -> None:
        mono, at = self._clock.mono(), self._clock.wall()
        before = self.store_disk.trouble if self.store_disk else None
        self.store_disk = await self._store_files.call(
            lambda: read_store_disk(store, mono=mono, at=at), timeout_s=_READ_LIMIT_S
        )
        if not before and self.store_disk and self.store_disk.trouble:
            self._log.error("engine_outcome", outcome="disk_full", message=self.store_disk.trouble)

    def _read(self, pid: int | None, before: Look | None) -> Look:
        """Runs in a thread."""
        self._machine = self._machine or read_machine(self._root)
        host = read_host(self._root)
        return Look(
            taken_mono=self._clock.mono(),
            taken_at=self._clock.wall(),
            host=host,
            cpu_percent=cpu_percent(before.host.cpu if before else None, host.cpu),
            engine=read_tree(pid),
            own=read_own(),
        )

    def _say_unexpected(self, error: BaseException | None) -> None:
        """A fault of ours: the traceback goes to the log, the telemetry goes on."""
        text = "".join(traceback.format_exception(error)) if error else "its task ended by itself"
        self._log.error("telemetry_failed", traceback=text)


def _source_for(
    settings: GpuSettings,
    clock: Clock,
    log: EventLog,
    *,
    own: Callable[[int], None],
    disown: Callable[[int], None],
) -> GpuSource:
    if settings.gpu not in ("auto", "nvml"):
        return NoGpu(settings.gpu, clock.mono())
    is_asked_for = settings.gpu == "nvml"
    looks_anyway = "ARASUL_GPU is nvml" if is_asked_for else ""
    return NvmlSource(settings.sysroot, clock, log, own=own, disown=disown, looks_anyway=looks_anyway)
