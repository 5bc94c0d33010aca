"""What the engine's starts are told of the GPU's memory, from the launch's knowledge and from the samples since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.launch_memory import GpuMemory, cards_by_driver, write_note

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.telemetry.gpu.launch_memory import LaunchMemory
    from arasul_supervisor.telemetry.process_figures import TreeFigures


_WORTH_SAYING: Final = 0.1  # of the total


@dataclass(frozen=True, slots=True)
class Idle:
    """Since when this engine (None: there is none) has been seen without a runner."""

    pid: int | None
    since_mono: float


def idle_since(before: Idle | None, engine: TreeFigures | None, now_mono: float) -> Idle | None:
    """Since when no model is loaded; None while one is. Another engine starts anew: figures may be older. Pure."""
    if engine is not None and len(engine.members) > 1:
        return None
    pid = engine.pid if engine else None
    return before if before is not None and before.pid == pid else Idle(pid, now_mono)


class GpuMemoryBook:
    """What the engine's starts are told of the GPU's memory: of the launch at first, of the samples from then on.

    Only figures count that were taken while no model was loaded: at a start nothing of the former engine is left.
    """

    def __init__(self, state_dir: Path, at_launch: LaunchMemory) -> None:
        """Begin with what the launch knew."""
        self._state_dir = state_dir
        self._gpus = at_launch.gpus
        self._noted = at_launch.gpus
        self._is_seen = False

    @property
    def gpus(self) -> tuple[GpuMemory, ...]:
        """Memory of each GPU; empty where there is none or nothing is known."""
        return self._gpus

    def take(self, gpus: tuple[GpuMemory, ...], *, is_engine_idle: bool) -> str:
        """Learn from a sample. While models are loaded only what was not known at all is taken, as if all were free.

        :returns: a sentence when the engine of this launch was started on another assumption; else an empty text
        """
        if not gpus:
            return ""
        if is_engine_idle:
            correction = "" if self._is_seen else _correction(self._gpus, gpus)
            self._gpus, self._is_seen = gpus, True
            return correction
        if len(self._gpus) != len(gpus):
            self._gpus = tuple(GpuMemory(gpu.total_bytes, gpu.total_bytes) for gpu in gpus)
        return ""

    @property
    def is_worth_noting(self) -> bool:
        """Whether the note on the disk would be another one: what is free changes all the time and does not count."""
        totals = [[gpu.total_bytes for gpu in gpus] for gpus in (self._gpus, self._noted)]
        return totals[0] != totals[1]

    def note(self, root: Path) -> None:
        """Write the note for the next launch. Reads and writes files, so not for the loop."""
        self._noted = self._gpus
        write_note(self._state_dir, cards_by_driver(root), self._noted)


def _correction(assumed: tuple[GpuMemory, ...], seen: tuple[GpuMemory, ...]) -> str:
    """What is said when less is free than a note of an earlier life made the launch assume."""
    if len(assumed) != len(seen):
        return ""
    taken = [
        (told.available_bytes - gpu.available_bytes) >> 20
        for told, gpu in zip(assumed, seen, strict=True)
        if told.available_bytes - gpu.available_bytes > gpu.total_bytes * _WORTH_SAYING
    ]
    if not taken:
        return ""
    return (
        f"Other programs hold {max(taken)} MiB of the GPU's memory, which this start of the engine did not know: it "
        "leaves more free than OLLAMA_GPU_MEMORY_FRACTION asks for. Its next start has the right limit "
        "(`arasul-supervisor restart`)."
    )
