"""What our control group may use and holds: memory, processor time, processes. Both versions, below a root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_int, read_text, to_int

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_NO_V1_LIMIT_BYTES: Final = 1 << 60  # version 1 says "none" with a number near 2⁶³
_MOUNT: Final = "sys/fs/cgroup"
_MOST_HIERARCHIES: Final = 64  # version 1 has a dozen
_MOST_LEVELS: Final = 64
_OOM_KILLS: Final = re.compile(r"^oom_kill (\d{1,20})$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Level:
    """A folder of our own group or of one above it, in a hierarchy of version 1 or 2."""

    folder: Path
    is_v1: bool


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """The tightest limit on the way to the root (None: no limit) and what our own group holds, page cache included."""

    limit_bytes: int | None
    current_bytes: int | None


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What else the groups limit (None: nothing does), and what our own group counts (None: it does not)."""

    cpus: float | None
    pids_limit: int | None
    pids: int | None
    oom_kills: int | None


class Groups:
    """Where we stand in the hierarchies. Lines of `/proc/self/cgroup`: `0::/a/b`, `4:memory:/docker/…`; inside a
    container the path may be the host's, and only the mount's root exists."""

    def __init__(self, root: Path) -> None:
        """Read it once; a process is rarely moved, so one look at all files may share it."""
        self._mount = root / _MOUNT
        self._lines = (read_text(root / "proc/self/cgroup") or "0::/").splitlines()[:_MOST_HIERARCHIES]

    def memory(self) -> MemoryGroup:
        """Bytes of our group."""
        levels = self._levels("memory")
        limits = (
            read_int(level.folder / ("memory.limit_in_bytes" if level.is_v1 else "memory.max"))
            for level in levels  # `memory.max` may be the word `max`
        )
        used = (
            read_int(level.folder / ("memory.usage_in_bytes" if level.is_v1 else "memory.current"))
            for level in levels
        )
        return MemoryGroup(
            limit_bytes=_least(limit for limit in limits if limit is None or limit < _NO_V1_LIMIT_BYTES),
            current_bytes=_first(used),
        )

    def limits(self) -> GroupLimits:
        """Processors as a number that may be a fraction, and processes with threads (`pids`)."""
        pids = self._levels("pids")
        cpus = [_cpus(level) for level in self._levels("cpu")]
        return GroupLimits(
            cpus=min((limit for limit in cpus if limit is not None), default=None),
            pids_limit=_least(read_int(level.folder / "pids.max") for level in pids),
            pids=_first(read_int(level.folder / "pids.current") for level in pids),
            oom_kills=_first(_oom_kills(level) for level in self._levels("memory")),
        )

    def _levels(self, controller: str) -> Sequence[Level]:
        """From our own group up to the root of the mount."""
        found: list[Level] = []
        for line in self._lines:
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            is_v1 = number != "0"
            if is_v1 and controller not in controllers.split(","):
                continue
            base = self._mount / controller if is_v1 else self._mount
            parts = [part for part in path.split("/") if part not in ("", "..")][:_MOST_LEVELS]
            found += [Level(base.joinpath(*parts[:depth]), is_v1) for depth in range(len(parts), -1, -1)]
        return found


def parse_oom_kills(text: str | None) -> int | None:
    """The line `oom_kill 37` of `memory.events`, `memory.oom_control` or `/proc/vmstat`."""
    found = _OOM_KILLS.search(text or "")
    return int(found[1]) if found else None


def quota_cpus(quota: str, period: str) -> float | None:
    """Processors that this much time in each period makes, in hundredths; None for no limit (`max`, -1). Pure."""
    quota_us, period_us = to_int(quota), to_int(period)
    if quota_us is None or not period_us or quota_us <= 0 or period_us < 0:
        return None
    return round(quota_us / period_us, 2)


def _cpus(level: Level) -> float | None:
    """`cpu.max` of version 2 holds both figures: `150000 100000`."""
    if level.is_v1:
        return quota_cpus(
            read_text(level.folder / "cpu.cfs_quota_us") or "",
            read_text(level.folder / "cpu.cfs_period_us") or "",
        )
    quota, _, period = (read_text(level.folder / "cpu.max") or "").partition(" ")
    return quota_cpus(quota, period)


def _oom_kills(level: Level) -> int | None:
    name = "memory.oom_control" if level.is_v1 else "memory.events"
    return parse_oom_kills(read_text(level.folder / name))


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _first(values: Iterable[int | None]) -> int | None:
    """Lazy: what lies above our own group is read only where our own says nothing."""
    return next((value for value in values if value is not None), None)
