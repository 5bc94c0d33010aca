"""Memory of the engine's process tree and of the daemon itself.

Pids mean something only in our own `/proc`, so this is the one place that does not look below the configurable root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from arasul_supervisor.telemetry.files import read_text

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class TreeFigures:
    """A process with all its descendants; shared and mapped pages count in each of them."""

    pid: int
    rss_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """The daemon's own size."""

    pid: int
    rss_bytes: int | None
    open_fds: int | None


def read_tree(pid: int | None, proc: Path = PROC) -> TreeFigures | None:
    """Resident bytes of `pid` and its descendants; None when there is no such process."""
    if pid is None or (own := _rss_bytes(pid, proc)) is None:
        return None
    sizes = [
        own,
        *(size for child in _descendants(pid, proc) if (size := _rss_bytes(child, proc)) is not None),
    ]
    return TreeFigures(pid=pid, rss_bytes=sum(sizes), processes=len(sizes))


def read_own(proc: Path = PROC) -> OwnFigures:
    """The daemon's resident bytes and open descriptors."""
    pid = os.getpid()
    try:
        open_fds = len(os.listdir(proc / str(pid) / "fd")) - 1  # less the one that lists
    except OSError:
        open_fds = None
    return OwnFigures(pid=pid, rss_bytes=_rss_bytes(pid, proc), open_fds=open_fds)


def _rss_bytes(pid: int, proc: Path) -> int | None:
    """Second field of `statm`, in pages: `18274 5021 2310 660 0 3120 0`. Zombies say 0."""
    words = (read_text(proc / str(pid) / "statm") or "").split()
    if len(words) < 2:
        return None
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


def _descendants(pid: int, proc: Path) -> list[int]:
    """All below `pid`, by the kernel's own lists; by a scan of all processes where it has none."""
    if read_text(proc / f"self/task/{os.getpid()}/children") is None:
        return _descendants_by_scan(pid, proc)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop(), proc)
        found += children
        waiting += children
    return found


def _children(pid: int, proc: Path) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(proc / f"{pid}/task")
    except OSError:
        return found
    for thread in threads:
        found += map(int, (read_text(proc / f"{pid}/task/{thread}/children") or "").split())
    return found


def _descendants_by_scan(pid: int, proc: Path) -> list[int]:
    """Without CONFIG_PROC_CHILDREN: 21 ms for 500 processes (facts/process.md §3), hence never on the loop."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir(proc)):
        # `4242 (a name) with ) in it) S 17 …`: the parent is the second word after the last bracket
        words = (read_text(proc / name / "stat") or "").rpartition(")")[2].split()
        if len(words) > 1:
            children.setdefault(int(words[1]), []).append(int(name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
