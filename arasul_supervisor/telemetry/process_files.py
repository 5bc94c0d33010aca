"""What procfs says of one process.

`stat`, the list of descriptors and the lists of children take no lock that a hanging driver can hold. The arguments
and the proportional size do (the lock of the address space): who reads them must bear that it takes for ever.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_MAX_BYTES: Final = 256 * 1024
_PSS: Final = re.compile(rb"^Pss: +(\d{1,15}) kB", re.MULTILINE)
_DEAD: Final = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process. `cpu_ticks` of user and system together, `start_ticks` since boot; a pid may be used again, a pid
    with its start may not."""

    pid: int
    parent_pid: int
    is_dead: bool
    cpu_ticks: int
    threads: int
    start_ticks: int
    rss_bytes: int


def read_stat(pid: int, proc: Path) -> ProcessStat | None:
    """The process as it is now; None when there is none."""
    return parse_stat(_read(f"{proc}/{pid}/stat"))


def parse_stat(text: bytes | None) -> ProcessStat | None:
    """`4242 (a name) with ) in it) S 17 4242 4242 0 -1 4194560 511 0 0 0 3 1 0 0 20 0 12 0 5120 99 187 …` (proc(5)):
    what follows the last bracket are fields 3 (state) to 24 (resident pages)."""
    head, _, tail = (text or b"").rpartition(b")")
    fields = tail.split(None, 22)
    try:
        return ProcessStat(
            pid=int(head.partition(b" ")[0]),
            parent_pid=int(fields[1]),
            is_dead=fields[0] in _DEAD,
            cpu_ticks=int(fields[11]) + int(fields[12]),
            threads=int(fields[17]),
            start_ticks=int(fields[19]),
            rss_bytes=max(0, int(fields[21])) * os.sysconf("SC_PAGE_SIZE"),
        )
    except (IndexError, ValueError):
        return None


def count_fds(pid: int, proc: Path) -> int | None:
    """Open descriptors; None when they are not ours to see. From Linux 6.2 the size of the folder tells them."""
    folder = f"{proc}/{pid}/fd"
    try:
        size = os.stat(folder).st_size
        if size or pid != os.getpid():
            return size or len(os.listdir(folder))
        return len(os.listdir(folder)) - 1  # less the one that lists
    except OSError:
        return None


def children_of(pid: int, proc: Path) -> list[int]:
    """Pids of its children, from the lists of all its threads."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{proc}/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        found += map(int, (_read(f"{proc}/{pid}/task/{thread}/children") or b"").split())
    return found


def has_children_lists(proc: Path) -> bool:
    """False on a kernel without CONFIG_PROC_CHILDREN."""
    return _read(f"{proc}/self/task/{os.getpid()}/children") is not None


def all_pids(proc: Path) -> list[int]:
    """Every process there is."""
    return [int(name) for name in os.listdir(proc) if name.isascii() and name.isdigit()]


def read_argv(pid: int, proc: Path) -> tuple[str, ...] | None:
    """Its arguments; empty for a dead one, None when there is none. May block for ever, see above."""
    text = _read(f"{proc}/{pid}/cmdline")
    if text is None:
        return None
    return tuple(os.fsdecode(word) for word in text.rstrip(b"\0").split(b"\0")) if text else ()


def read_pss_bytes(pid: int, proc: Path) -> int | None:
    """Proportional size: a page that n processes share counts 1/n; None when it is not ours to see.

    The kernel walks the page tables: 0.1 s and more for a mapped model of 15 GB. May block for ever, see above.
    """
    found = _PSS.search(_read(f"{proc}/{pid}/smaps_rollup") or b"")
    return int(found[1]) * 1024 if found else None


def _read(path: str) -> bytes | None:
    """At most 256 KiB of the file; None when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    chunks: list[bytes] = []
    size = 0
    try:
        while size < _MAX_BYTES and (chunk := os.read(fd, 16384)):
            chunks.append(chunk)
            size += len(chunk)
    except OSError:  # ESRCH: it ended meanwhile
        return None
    finally:
        os.close(fd)
    return b"".join(chunks)
