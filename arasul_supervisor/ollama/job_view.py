"""The jobs of the daemon as they are seen from outside, whatever they do: pull, verify or repair models."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class JobState(str, Enum):
    """The words of CONTRACT §4."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A model that `verify` found broken, or that `repair` could not mend: which, and what is wrong with it."""

    name: str
    reason: str
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobView:
    """A job at one instant; `_at` are epoch seconds.

    `model`: None for all models. `total` and `completed`: bytes over all layers, as far as they are known.
    `status`: what it does now, in Ollama's words. `layer`: the digest that is under way, the `layer_number`th of
    `layers`. `refetched_bytes`: what had come, was lost and is fetched again, in this life of the daemon.
    `next_attempt_at`: while it waits. `broken`: what verify and repair found; None for a pull.
    """

    id: str
    kind: str
    model: str | None
    state: JobState
    created_at: float
    total: int | None = None
    completed: int = 0
    speed_bytes_per_s: float | None = None
    eta_s: float | None = None
    attempts: int = 0
    refetched_bytes: int = 0
    status: str | None = None
    layer: str | None = None
    layer_number: int | None = None
    layers: int | None = None
    error: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    next_attempt_at: float | None = None
    broken: tuple[BrokenModel, ...] | None = None
