"""One runner of the simulated box, and a process as /proc would show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.supervision.process_looks import ProcessLook

if TYPE_CHECKING:
    from arasul_supervisor.supervision.process_looks import Identity

TICKS_PER_S: Final = 100.0


@dataclass(slots=True)
class SimulatedProcess:
    """What /proc would say."""

    pid: int
    start_ticks: int
    state: str = "S"
    cpu_ticks: float = 0.0
    major_faults: int = 0
    moved_bytes: int = 0
    is_runnable: bool = False
    waits_on: str = ""

    @property
    def identity(self) -> Identity:
        """What tells it from a later one."""
        return self.pid, self.start_ticks

    def look(self, *, is_starved: bool = False) -> ProcessLook:
        """As it is seen now; what is starved has a thread that waits for a processor, unless it is stopped."""
        return ProcessLook(
            (self.pid, self.start_ticks),
            self.state,
            int(self.cpu_ticks),
            self.major_faults,
            self.moved_bytes,
            self.is_runnable or (is_starved and self.state not in "TtD"),
            self.waits_on,
        )


@dataclass(slots=True)
class SimulatedRunner:
    """One runner, with the model it holds.

    `pace`: which share of its work gets done; 0 while something holds it. `is_in_use`: Ollama will not end it.
    `pooled`: connections without a request, and when they are closed. `due_mono`: when Ollama's timer ends it, which
    is not `expires_at`, on the wall's clock, after that clock was set or stood. `dies_mono`: its end is under way.
    `heeds_unload`, `is_unloaded_in_time`: whether Ollama still manages to.
    """

    process: SimulatedProcess
    model: str
    port: int
    blob: str
    is_ready: bool = False
    is_listed: bool = False
    is_on_gpu: bool = False
    connections: set[int] = field(default_factory=set)
    pooled: dict[int, float] = field(default_factory=dict)
    unread_bytes: int = 0
    is_busy: bool = False
    progress: tuple[int, int, int] = (0, 0, 0)
    answers: bool = True
    pace: float = 1.0
    is_in_use: bool = False
    is_dead: bool = False
    is_orphan: bool = False
    survives_kill: bool = False
    wakes: bool = True
    heeds_unload: bool = True
    is_unloaded_in_time: bool = True
    expires_at: float = float("inf")
    due_mono: float = float("inf")
    dies_mono: float | None = None

    def take(self, cure: Cure) -> None:
        """What a cure does to it."""
        is_killed = cure is Cure.END_RUNNER and not self.survives_kill
        is_unloaded = cure is Cure.UNLOAD and self.heeds_unload
        if is_killed or is_unloaded:
            self.is_dead, self.is_listed = True, False
        elif cure is Cure.CONTINUE and self.process.state == "T":
            self.process.state = "S"
            if self.wakes:
                self.answers, self.pace = True, 1.0


def blob_of(model: str, version: int = 1) -> str:
    """The weights of a model of this box."""
    return f"sha256:weights-{version}-of-{model}"
