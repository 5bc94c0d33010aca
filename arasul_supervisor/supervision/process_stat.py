"""What `/proc/<pid>/stat` says of a process (proc(5)). It takes none of the locks that a hanging driver may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PF_EXITING: Final = 0x4  # linux/sched.h
_PF_FORKNOEXEC: Final = 0x40
_MAX_BYTES: Final = 4096  # the kernel prints some 400
_MAX_PARENTS: Final = (
    64  # a family is a few deep; one that changes while it is walked must not walk us in circles
)


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process: its `command` (15 letters at most), its `state` as one letter, its parent.

    `is_exiting` is true from the start of its end until it is reaped: its environment is gone long before it is.
    `is_copy`: forked and not executed yet, so that arguments and environment are still its parent's.
    `cpu_ticks` of user and system together and `start_ticks` since boot are those of SC_CLK_TCK.
    """

    command: str
    state: str
    parent_pid: int
    is_exiting: bool
    is_copy: bool
    major_faults: int
    cpu_ticks: int
    threads: int
    start_ticks: int


def stat_of(pid: int) -> ProcessStat | None:
    """The process as it is now; None when it is gone, or when no descriptor is left to look with."""
    try:
        return read_stat(pid)
    except OSError:
        return None


def read_stat(pid: int) -> ProcessStat | None:
    """The process as it is now; None when it is gone. Its name may hold anything, also `) R 1 (`.

    :raises OSError: no descriptor is left
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            head, _, tail = file.read(_MAX_BYTES).rpartition(b")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = tail.split(None, 20)
    try:
        flags = int(fields[6])
        return ProcessStat(
            command=head.partition(b"(")[2].decode("utf-8", "replace"),
            state=fields[0].decode("ascii"),
            parent_pid=int(fields[1]),
            is_exiting=bool(flags & _PF_EXITING),
            is_copy=bool(flags & _PF_FORKNOEXEC),
            major_faults=int(fields[9]),
            cpu_ticks=int(fields[11]) + int(fields[12]),
            threads=int(fields[17]),
            start_ticks=int(fields[19]),
        )
    except (IndexError, ValueError):
        return None


def is_below(pid: int, ancestor: int) -> bool:
    """True when `ancestor` is among the living parents of `pid`. What is gone is below nobody.

    :raises OSError: no descriptor is left
    """
    for _ in range(_MAX_PARENTS):
        stat = read_stat(pid)
        if stat is None or stat.parent_pid == 0:
            return False
        pid = stat.parent_pid
        if pid == ancestor:
            return True
    return False
