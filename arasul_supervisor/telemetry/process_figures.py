"""Sizes and processor time of the engine's process tree and of the daemon itself.

Pids mean something only in our own `/proc`, so this is the one place that does not look below the configurable root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.process_files import (
    PROC,
    all_pids,
    children_of,
    count_fds,
    has_children_lists,
    read_stat,
)

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.telemetry.process_files import ProcessStat

Identity = tuple[int, int]
"""A pid with the ticks of its start: never used twice."""

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One living process. `cpu_percent` of one processor, so 400 is four of them; None until its second look."""

    pid: int
    start_ticks: int
    cpu_ticks: int
    rss_bytes: int
    threads: int
    open_fds: int | None
    cpu_percent: float | None = None

    @property
    def identity(self) -> Identity:
        """What tells it from a later process of the same pid."""
        return self.pid, self.start_ticks


@dataclass(frozen=True, slots=True)
class TreeFigures:
    """A process, first of `members`, with all its living descendants."""

    members: tuple[ProcessFigures, ...]

    @property
    def pid(self) -> int:
        """The leader."""
        return self.members[0].pid

    @property
    def rss_bytes(self) -> int:
        """Resident bytes; shared and mapped pages count in each process."""
        return sum(member.rss_bytes for member in self.members)

    @property
    def threads(self) -> int:
        """Threads of all."""
        return sum(member.threads for member in self.members)

    @property
    def open_fds(self) -> int | None:
        """Descriptors of all; None as soon as one process keeps its own to itself."""
        counts = [member.open_fds for member in self.members if member.open_fds is not None]
        return sum(counts) if len(counts) == len(self.members) else None

    @property
    def cpu_percent(self) -> float | None:
        """Of one processor, over those that were there at the last look too; None when the leader was not."""
        if self.members[0].cpu_percent is None:
            return None
        return round(sum(member.cpu_percent or 0.0 for member in self.members), 1)


def read_tree(pid: int | None, proc: Path = PROC) -> TreeFigures | None:
    """`pid` and its descendants; None when there is no such process, or it is dead."""
    if pid is None or (leader := read_stat(pid, proc)) is None or leader.is_dead:
        return None
    below = _below(pid, proc) if has_children_lists(proc) else _below_by_scan(pid, proc)
    living = (leader, *(stat for stat in below if not stat.is_dead))
    return TreeFigures(tuple(_figures(stat, proc) for stat in living))


def read_own(proc: Path = PROC) -> ProcessFigures | None:
    """The daemon's own."""
    stat = read_stat(os.getpid(), proc)
    return _figures(stat, proc) if stat is not None else None


def tree_with_load(after: TreeFigures, before: TreeFigures | None, *, passed_s: float) -> TreeFigures:
    """The same with each process's processor time since the look `passed_s` ago. Pure."""
    earlier = {member.identity: member for member in before.members} if before else {}
    return TreeFigures(
        tuple(with_load(member, earlier.get(member.identity), passed_s=passed_s) for member in after.members)
    )


def with_load(after: ProcessFigures, before: ProcessFigures | None, *, passed_s: float) -> ProcessFigures:
    """The same with its processor time since the look `passed_s` ago. Pure.

    None where that look did not see this very process: a pid that is used again starts anew.
    """
    if before is None or before.identity != after.identity or passed_s <= 0:
        return after
    used_s = max(0, after.cpu_ticks - before.cpu_ticks) / _TICKS_PER_S
    return replace(after, cpu_percent=round(100 * used_s / passed_s, 1))


def _figures(stat: ProcessStat, proc: Path) -> ProcessFigures:
    return ProcessFigures(
        pid=stat.pid,
        start_ticks=stat.start_ticks,
        cpu_ticks=stat.cpu_ticks,
        rss_bytes=stat.rss_bytes,
        threads=stat.threads,
        open_fds=count_fds(stat.pid, proc),
    )


def _below(pid: int, proc: Path) -> list[ProcessStat]:
    """All below `pid`, by the kernel's own lists."""
    found: list[ProcessStat] = []
    seen, waiting = {pid}, [pid]
    while waiting:
        for child in children_of(waiting.pop(), proc):
            stat = read_stat(child, proc) if child not in seen else None
            if stat is not None:
                seen.add(child)
                found.append(stat)
                waiting.append(child)
    return found


def _below_by_scan(pid: int, proc: Path) -> list[ProcessStat]:
    """Without CONFIG_PROC_CHILDREN: 21 ms for 500 processes (facts/process.md §3), hence never on the loop."""
    children: dict[int, list[ProcessStat]] = {}
    for other in all_pids(proc):
        stat = read_stat(other, proc)
        if stat is not None:
            children.setdefault(stat.parent_pid, []).append(stat)
    found: list[ProcessStat] = []
    seen, waiting = {pid}, [pid]
    while waiting:
        below = [stat for stat in children.get(waiting.pop(), ()) if stat.pid not in seen]
        found += below
        seen.update(stat.pid for stat in below)
        waiting += [stat.pid for stat in below]
    return found
