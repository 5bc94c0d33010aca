"""What can be seen of the engine and its runners from outside, as values: one `Look` holds all of an instant.

Every witness says when it was asked, or that it could not be. Nothing here asks; observer.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.supervision.process_looks import Identity, ProcessLook

T = TypeVar("T")

STOPPED: Final = "T"
TRACED: Final = "t"
IN_KERNEL: Final = "D"


@dataclass(frozen=True, slots=True)
class Witness(Generic[T]):
    """What a witness said last, and when. `value` is None where it could not be asked, which `trouble` explains."""

    value: T | None = None
    taken_mono: float | None = None
    trouble: str = "not asked yet"

    def age_s(self, now_mono: float) -> float | None:
        """How old the answer is; None while there is none."""
        return None if self.taken_mono is None else max(0.0, now_mono - self.taken_mono)


def told(value: T, taken_mono: float) -> Witness[T]:
    """A witness that answered."""
    return Witness(value, taken_mono, "")


class Answering(Enum):
    """How a runner's own HTTP server took our question."""

    UNASKED = "unasked"
    READY = "ready"
    LOADING = "loading"  # 503 on ≥ 0.30, another status than ok on ≤ 0.29
    CLOSED = "closed"  # nothing listens there
    SILENT = "silent"  # no answer in time


@dataclass(frozen=True, slots=True)
class SlotsLook:
    """`GET /slots` of a llama-server: whether it works on a request, and counters that stand still only if it does.

    `progress`: task, prompt tokens read, tokens written, of each slot; equal means that nothing moved.
    """

    is_busy: bool
    progress: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class RunnerLook:
    """One model runner at one look.

    `port` and `blob` (`sha256:…`) are those of its argv; a split model has no blob there.
    `connections`: ports of its peers. On 0.34 these are its open requests (measured: gone with each answer); an
    engine ≤ 0.29 may keep an idle one for 90 s. None: could not be read. `unread_bytes` wait in them: a client that
    does not read holds up what is behind it.
    `slots`: None where it was not asked, or does not tell. `is_orphan`: it is not below the engine.
    """

    process: ProcessLook
    port: int | None
    blob: str | None
    answering: Answering = Answering.UNASKED
    slots: SlotsLook | None = None
    connections: frozenset[int] | None = None
    unread_bytes: int = 0
    is_orphan: bool = False

    @property
    def identity(self) -> Identity:
        """What tells it from a later process of the same pid."""
        return self.process.identity


@dataclass(frozen=True, slots=True)
class EngineLook:
    """The engine: its process, and how it takes the heartbeat.

    `missed_beats`: in a row, one a second. `ready_s`: since it answered first. `is_llama_server`: ≥ 0.30.
    `unread_bytes`: what its clients have not read; looked at only where that decides, else None.
    """

    generation: int
    process: ProcessLook | None
    missed_beats: int
    ready_s: float
    is_llama_server: bool
    unread_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelsLook:
    """`/api/ps`: what Ollama believes is loaded.

    `expires_in_s`: by name; past is negative. `blobs`: the weights of each name, where the store tells them.
    `missing`: names that are not installed any more. `installed_blobs`: the weights of all that are.
    """

    loaded: tuple[LoadedModel, ...]
    expires_in_s: Mapping[str, float] = field(default_factory=dict)
    blobs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    installed_blobs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GpuLook:
    """The GPU as a source of its own sees it, apart from the engine.

    `state`: the word of the worst card, or of its source (facts/gpu.md §7.1). `is_well`: a card answers now.
    `has_worked`: one has answered in this life. `load_percent`: of the busiest card; None where unknown.
    """

    state: str
    is_well: bool
    has_worked: bool
    load_percent: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class MemoryLook:
    """The memory that models live in: the host's where the GPU shares it or there is none, else the fullest card's.

    `pressure_percent`: share of the last 10 s in which tasks waited for memory; None where the kernel does not tell.
    """

    available_bytes: int
    total_bytes: int
    is_dedicated: bool = False
    pressure_percent: float | None = None

    @property
    def used_percent(self) -> float:
        """Share of the total that is in use."""
        return 100 * (1 - self.available_bytes / self.total_bytes)


@dataclass(frozen=True, slots=True)
class LogLook:
    """What the engine's log has told of this generation and still counts.

    `outcomes`: how often, and when last (monotonic seconds). `deaths`: how often a runner of each model has died.
    `is_on_cpu`: it said at its start that it found no GPU.
    """

    outcomes: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    deaths: Mapping[str, int] = field(default_factory=dict)
    is_on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """All witnesses of one instant, on the monotonic clock and on the wall's. `engine` is None unless it runs.

    `cpu_wish`: why the engine is meant to use no GPU. `own_load`: the model that the daemon itself is loading.
    `oom_kills`: what the kernel ended for want of memory in this generation.
    """

    now_mono: float
    now_wall: float
    engine: EngineLook | None
    runners: Witness[tuple[RunnerLook, ...]] = field(default_factory=Witness)
    models: Witness[ModelsLook] = field(default_factory=Witness)
    gpu: GpuLook | None = None
    memory: MemoryLook | None = None
    log: LogLook = field(default_factory=LogLook)
    cpu_wish: str | None = None
    own_load: str | None = None
    oom_kills: int = 0
