"""What `/proc/<pid>/stat` says of a process (proc(5)). It takes none of the locks that a hanging driver may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PF_EXITING: Final = 0x4  # linux/sched.h


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process: its `command` (15 letters at most), its `state` as one letter, its parent.

    `is_exiting` is true from the start of its end until it is reaped: its environment is gone long before it is.
    """

    command: str
    state: str
    parent_pid: int
    is_exiting: bool


def stat_of(pid: int) -> ProcessStat | None:
    """The process as it is now; None when it is gone. Its name may hold anything, also `) R 1 (`."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
        fields = tail.split()
        return ProcessStat(
            command=head.partition(b"(")[2].decode("utf-8", "replace"),
            state=fields[0].decode("ascii"),
            parent_pid=int(fields[1]),
            is_exiting=bool(int(fields[6]) & _PF_EXITING),
        )
    except (OSError, IndexError, ValueError):
        return None
