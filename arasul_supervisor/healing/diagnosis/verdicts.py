"""What a diagnosis says, and what may be done about it: words and values that all of this room shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arasul_supervisor.supervision.process_looks import Identity


class Kind(str, Enum):
    """What is wrong. `§7 n` is the row of facts/ollama.md."""

    RUNNER_STUCK = "runner_stuck"  # §7 1
    RUNNER_FROZEN = "runner_frozen"  # §7 2, 3
    RUNNER_LEAKED = "runner_leaked"  # §7 10
    RUNNER_ORPHANED = "runner_orphaned"  # §7 10
    RUNNER_DIED = "runner_died"  # §7 4, 7
    RUNNERS_KEEP_DYING = "runners_keep_dying"  # §7 7, 14
    LOAD_STUCK = "load_stuck"  # §7 6
    LOAD_DIED = "load_died"  # §7 5
    STOPPING_STUCK = "stopping_stuck"  # listed past its time, and nothing is being answered
    MODEL_DELETED = "model_deleted"  # §7 20
    SCHEDULER_STUCK = "scheduler_stuck"  # §7 26 with nothing behind it
    ENGINE_FROZEN = "engine_frozen"  # §7 9
    ENGINE_CRASHED = "engine_crashed"
    START_FAILED = "start_failed"
    MODEL_QUARANTINED = "model_quarantined"  # §7 21
    CPU_FALLBACK = "cpu_fallback"  # §7 11
    GPU_UNREACHABLE = "gpu_unreachable"  # §7 12
    GPU_BROKEN = "gpu_broken"  # §7 13, 14
    MEMORY_LOW = "memory_low"
    ASKED_FOR = "asked_for"  # a caller's wish: gpu/recover, cache/clear


class Cure(str, Enum):
    """What is done, the gentlest first."""

    NONE = "none"
    CONTINUE = "continued"
    CANCEL_LOAD = "load_cancelled"
    UNLOAD = "unloaded"
    END_RUNNER = "runner_killed"
    RESTART_ENGINE = "engine_restarting"
    EXIT = "exit"


class Certainty(Enum):
    """How sure it is: only what at least two witnesses say is certain, and only what is certain is cured."""

    SUSPECTED = "suspected"
    CERTAIN = "certain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that is wrong.

    `runner`: which one; None for the whole engine, the GPU or the box. `model`: its name, where known; `blob`: its
    weights, which are known of one that still loads too.
    `evidence`: one sentence that names what was seen, with figures. `since_mono`: the first sign of it.
    """

    kind: Kind
    evidence: str
    since_mono: float
    certainty: Certainty = Certainty.CERTAIN
    runner: Identity | None = None
    model: str | None = None
    blob: str | None = None

    @property
    def subject(self) -> str:
        """What it is about, as a key: the same illness of the same thing has the same one."""
        return f"{self.kind.value}:{self.runner or self.model or ''}"
