"""What one look at a process tells: whether it works, waits or stands still, without asking the process itself."""

from __future__ import annotations

from dataclasses import dataclass

Identity = tuple[int, int]
"""A pid with the ticks of its start: never used twice."""


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """What /proc says of one process. Counters only grow; ticks are those of SC_CLK_TCK.

    `state`: the letter of proc(5), of its main thread. `moved_bytes`: what it read and wrote, by calls and from the
    disk; None where that is not ours to see. `major_faults`: pages that came from a disk, swapped-out ones too.
    `is_runnable`: a thread of it runs or waits for a processor, so that what looks still may only be starved; of one at
    rest, that nobody waits for, its main thread alone is looked at.
    `waits_on`: the kernel function that its main thread sleeps in, where the kernel tells.
    """

    identity: Identity
    state: str
    cpu_ticks: int
    major_faults: int
    moved_bytes: int | None
    is_runnable: bool
    waits_on: str = ""

    @property
    def pid(self) -> int:
        """Its number, for people."""
        return self.identity[0]


@dataclass(frozen=True, slots=True)
class RunnerProcess:
    """A model runner: its process, and what its arguments say.

    `port`: where it serves on 127.0.0.1. `blob`: its weights, `sha256:<64 hex>`; None of a split model. `is_orphan`:
    it carries our marker and is not below the engine.
    """

    process: ProcessLook
    port: int | None
    blob: str | None
    is_orphan: bool = False
