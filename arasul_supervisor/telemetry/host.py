"""Memory, processors, load and trouble with memory of the host, read from procfs and cgroupfs below a root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.cgroup import Groups, parse_oom_kills
from arasul_supervisor.telemetry.files import read_text, to_int

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.cgroup import GroupLimits

_PROCESSOR: Final = re.compile(r"^cpu\d+ ", re.MULTILINE)
_AVERAGE: Final = re.compile(r"^(some|full) avg10=(\d{1,3}(?:\.\d{1,6})?)(?= |$)", re.MULTILINE | re.ASCII)
_LOADS: Final = re.compile(r"(\d{1,9}\.\d\d) (\d{1,9}\.\d\d) (\d{1,9}\.\d\d)(?: |$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Memory of the whole host; `used` leaves reclaimable page cache out (MemTotal − MemAvailable)."""

    total_bytes: int
    available_bytes: int
    swap_total_bytes: int | None
    swap_free_bytes: int | None
    nvmap_bytes: int | None
    cgroup_limit_bytes: int | None
    cgroup_current_bytes: int | None

    @property
    def used_bytes(self) -> int:
        """Bytes that cannot be had without swapping."""
        return self.total_bytes - self.available_bytes

    @property
    def used_percent(self) -> float:
        """Share of the total, one decimal."""
        return round(100 * self.used_bytes / self.total_bytes, 1)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks of all processors since boot."""

    total: int
    idle: int


@dataclass(frozen=True, slots=True)
class LoadAverages:
    """Processes that ran or waited for a disk, on average; above the number of processors some waited."""

    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """Percent of the last 10 s in which some, or all, tasks waited for memory."""

    some_avg10: float | None = None
    full_avg10: float | None = None


@dataclass(frozen=True, slots=True)
class HostSample:
    """What one look at the host found; None where it could not be read.

    `cpus` are the processors that are online, `oom_kills` what the kernel ended for want of memory since boot.
    """

    memory: HostMemory | None
    cpu: CpuTimes | None
    cpus: int | None
    load: LoadAverages
    pressure: MemoryPressure
    oom_kills: int | None
    limits: GroupLimits


def read_host(root: Path) -> HostSample:
    """One look at procfs and the control groups below `root`: 0.3 ms of a processor."""
    groups = Groups(root)
    ticks = read_text(root / "proc/stat")
    return HostSample(
        memory=read_memory(root, groups),
        cpu=parse_cpu_times(ticks),
        cpus=len(_PROCESSOR.findall(ticks or "")) or None,  # only those online have a line
        load=parse_loads(read_text(root / "proc/loadavg")),
        pressure=parse_pressure(read_text(root / "proc/pressure/memory")),
        oom_kills=parse_oom_kills(read_text(root / "proc/vmstat")),
        limits=groups.limits(),
    )


def read_memory(root: Path, groups: Groups | None = None) -> HostMemory | None:
    """The host's memory; None when meminfo lacks MemTotal or MemAvailable.

    :param groups: where we stand in the control groups; looked up when None
    """
    fields = parse_meminfo(read_text(root / "proc/meminfo"))
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    if not total or available is None:
        return None
    group = (groups or Groups(root)).memory()
    return HostMemory(
        total_bytes=total,
        available_bytes=min(available, total),
        swap_total_bytes=fields.get("SwapTotal"),
        swap_free_bytes=fields.get("SwapFree"),
        nvmap_bytes=fields.get("NvMapMemUsed"),
        cgroup_limit_bytes=group.limit_bytes,
        cgroup_current_bytes=group.current_bytes,
    )


def parse_meminfo(text: str | None) -> Mapping[str, int]:
    """Bytes by field name. A line as it was seen: `MemAvailable:   241172480 kB`."""
    found: dict[str, int] = {}
    for line in (text or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isascii() and words[0].isdigit() and len(words[0]) <= 20:
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def parse_cpu_times(text: str | None) -> CpuTimes | None:
    """Ticks of the first line of `/proc/stat`: user nice system idle iowait irq softirq steal (guest is in user)."""
    words = (text or "").partition("\n")[0].split()
    if len(words) < 6 or words[0] != "cpu":
        return None
    ticks = [tick for word in words[1:9] if (tick := to_int(word)) is not None]
    if len(ticks) < len(words[1:9]):
        return None
    return CpuTimes(total=sum(ticks), idle=ticks[3] + ticks[4])


def parse_loads(text: str | None) -> LoadAverages:
    """`/proc/loadavg` as it was seen: `0.20 0.18 0.12 1/80 11206`."""
    found = _LOADS.match(text or "")
    return LoadAverages(*map(float, found.groups())) if found else LoadAverages()


def parse_pressure(text: str | None) -> MemoryPressure:
    """`/proc/pressure/memory`: `some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459`, the same for `full`."""
    averages = {which: float(percent) for which, percent in _AVERAGE.findall(text or "")}
    return MemoryPressure(averages.get("some"), averages.get("full"))


def cpu_percent(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Busy share between two looks: all − idle − iowait, 0 to 100, one decimal; None without two looks. Pure."""
    if before is None or after is None or after.total <= before.total:
        return None
    total = after.total - before.total
    busy = total - (after.idle - before.idle)
    return round(min(100.0, max(0.0, 100 * busy / total)), 1)
