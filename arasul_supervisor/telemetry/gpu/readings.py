"""What every source of GPU figures says: one reading type, one report type, one protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.board import BoardFigures


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """Memory that one process holds on a GPU. In a container the pid may be the host's."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A slice of a card in MIG mode. NVIDIA refuses its utilisation."""

    index: int
    uuid: str | None
    name: str | None
    gpu_instance_id: int | None
    compute_instance_id: int | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class Mig:
    """Whether a card is cut into slices, and into which."""

    is_enabled: bool
    instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One look at one GPU through one source. None is "not known", never 0; `index` is this source's own.

    `source` is a word of facts/gpu.md §7: `nvml`, `sysfs`, `hwmon`, `jtop`.
    """

    index: int
    source: str = "nvml"
    state: str = "ok"
    node: str | None = None  # of a Jetson's GPU, below /sys/class/devfreq
    has_load_file: bool = False  # then NVML is a stub that tells names alone
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    driver_version: str | None = None
    utilization_percent: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_by_processes_bytes: int | None = None
    temperature_c: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    clock_mhz: float | None = None
    clock_max_mhz: float | None = None
    throttled: bool | None = None
    throttle_reasons: tuple[str, ...] | None = None
    fan_percent: float | None = None
    last_xid: int | None = None
    last_xid_mono: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    mig: Mig | None = None
    is_unified: bool = False  # shares the host's memory: its memory figures come from meminfo
    refusals: Mapping[str, int] = field(default_factory=dict)  # the source's code per figure it refused
    kept_since_mono: Mapping[str, float] = field(default_factory=dict)  # figures of an earlier look, kept
    throttled_since_mono: float | None = None
    has_worked: bool = False  # this very GPU has answered in this life
    is_unlisted: bool = False  # the driver tells of others, or of none; nobody said what became of it
    has_own_memory: bool = False  # it has told of memory of its own in this life
    is_stand_in: bool = False  # for whatever the source would tell of if it worked

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same from look to look: an index does not when a card falls off the bus."""
        return self.source, self.uuid or self.node or str(self.index)

    def identity(self) -> GpuReading:
        """The same GPU without what changes from look to look."""
        return GpuReading(
            index=self.index,
            source=self.source,
            state=self.state,
            node=self.node,
            has_load_file=self.has_load_file,
            name=self.name,
            uuid=self.uuid,
            pci_bus_id=self.pci_bus_id,
            driver_version=self.driver_version,
            is_unified=self.is_unified,
            is_unlisted=self.is_unlisted,
            has_own_memory=self.has_own_memory,
            has_worked=self.has_worked,
        )


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A source at one instant: its own state, what it found last, and since when."""

    source: str
    state: str  # of facts/gpu.md §7.1; of the source as a whole
    sentence: str
    since_mono: float  # since when in this state
    has_answered: bool = False  # at least one attempt has come to its end
    keeps_failing: bool = False  # several in a row came to none, so that something is broken
    has_worked: bool = False  # a GPU has answered in this life
    taken_mono: float | None = None  # when `readings` were taken
    readings: tuple[GpuReading, ...] = ()
    board: BoardFigures | None = None  # of the same look, from a source that reads them too
    cuda_version: str | None = None  # the newest that the driver can serve
    emc_percent: float | None = None  # load of the memory controller
    child_pid: int | None = None  # the process that asks, while there is one


class GpuSource(Protocol):
    """A place that GPU figures come from."""

    def report(self) -> SourceReport:
        """What is known, from memory."""

    def look_again(self) -> asyncio.Future[None]:
        """Ask for a look now rather than at the next period; done when it is published."""

    async def run(self) -> None:
        """Look again and again until cancelled; ends within a second then, and leaves nothing behind."""
