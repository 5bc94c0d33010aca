"""Pulls as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.clock import rfc3339

if TYPE_CHECKING:
    from arasul_supervisor.ollama.pulls.job import PullView


@dataclass(frozen=True, slots=True)
class PullJobView:
    """A pull. Bytes are sums over the layers known so far; `purged_bytes` only after a cancel with `purge`."""

    id: str
    kind: str
    model: str
    state: str
    total: int | None
    completed: int
    speed_bytes_per_s: float | None
    eta_s: float | None
    attempts: int
    error: str | None
    started_at: str | None
    finished_at: str | None
    purged_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PullsView:
    """The body of `GET /api/models/pulls`, newest first."""

    pulls: tuple[PullJobView, ...]


@dataclass(frozen=True, slots=True)
class PullLineView:
    """A line of a pull as Ollama sends it, or the only object without `stream`."""

    status: str


def job_view(pull: PullView, *, purged_bytes: int | None = None) -> PullJobView:
    """A pull at one instant."""
    return PullJobView(
        id=pull.id,
        kind=pull.kind,
        model=pull.model,
        state=pull.state,
        total=pull.total,
        completed=pull.completed,
        speed_bytes_per_s=pull.speed_bytes_per_s,
        eta_s=pull.eta_s,
        attempts=pull.attempts,
        error=pull.error,
        started_at=rfc3339(pull.started_at),
        finished_at=rfc3339(pull.finished_at),
        purged_bytes=purged_bytes,
    )
