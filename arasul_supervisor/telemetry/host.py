"""Memory, processor time and cgroup limits of the host, read from procfs and cgroupfs below a root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NO_V1_LIMIT_BYTES: Final = 1 << 60  # v1 says "none" with a number near 2⁶³


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
class HostSample:
    """What one look at the host found; None where it could not be read."""

    memory: HostMemory | None
    cpu: CpuTimes | None


def read_host(root: Path) -> HostSample:
    """One look at `/proc/meminfo`, `/proc/stat` and the cgroup below `root`."""
    return HostSample(memory=read_memory(root), cpu=parse_cpu_times(read_text(root / "proc/stat")))


def read_memory(root: Path) -> HostMemory | None:
    """The host's memory; None when meminfo lacks MemTotal or MemAvailable."""
    fields = parse_meminfo(read_text(root / "proc/meminfo"))
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    if not total or available is None:
        return None
    limit, current = _read_cgroup(root)
    return HostMemory(
        total_bytes=total,
        available_bytes=min(available, total),
        swap_total_bytes=fields.get("SwapTotal"),
        swap_free_bytes=fields.get("SwapFree"),
        nvmap_bytes=fields.get("NvMapMemUsed"),
        cgroup_limit_bytes=limit,
        cgroup_current_bytes=current,
    )


def parse_meminfo(text: str | None) -> Mapping[str, int]:
    """Bytes by field name. A line as it was seen: `MemAvailable:   241172480 kB`."""
    found: dict[str, int] = {}
    for line in (text or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isascii() and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def parse_cpu_times(text: str | None) -> CpuTimes | None:
    """Ticks of the first line of `/proc/stat`: user nice system idle iowait irq softirq steal (guest is in user)."""
    words = (text or "").partition("\n")[0].split()
    if len(words) < 6 or words[0] != "cpu":
        return None
    try:
        ticks = [int(word) for word in words[1:9]]
    except ValueError:
        return None
    return CpuTimes(total=sum(ticks), idle=ticks[3] + ticks[4])


def cpu_percent(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Busy share between two looks: all − idle − iowait, 0 to 100, one decimal; None without two looks. Pure."""
    if before is None or after is None or after.total <= before.total:
        return None
    total = after.total - before.total
    busy = total - (after.idle - before.idle)
    return round(min(100.0, max(0.0, 100 * busy / total)), 1)


def _read_cgroup(root: Path) -> tuple[int | None, int | None]:
    """The tightest limit on the way to the root (None: no limit) and what our own group holds now, in bytes."""
    limits: list[int] = []
    current: int | None = None
    for folder, limit_name, current_name in _memory_folders(root):
        limit = read_int(folder / limit_name)  # `memory.max` may be the word `max`
        if limit is not None and limit < _NO_V1_LIMIT_BYTES:
            limits.append(limit)
        if current is None:
            current = read_int(folder / current_name)
    return (min(limits) if limits else None), current


def _memory_folders(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders from our own group up, with the names of the two files. Lines of `/proc/self/cgroup`: `0::/a/b`,
    `4:memory:/docker/…`; inside a container the path may be the host's and only the mount's root exists."""
    for line in (read_text(root / "proc/self/cgroup") or "0::/").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        if number == "0":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth]), *names
