"""Jobs as the API shows them: pulls, and what `verify` and `repair` do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from arasul_supervisor.clock import rfc3339

if TYPE_CHECKING:
    from arasul_supervisor.ollama.job_view import JobView


@dataclass(frozen=True, slots=True)
class BrokenModelView:
    """A model that is broken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PullJobView:
    """A job; bytes are sums over the layers known so far.

    `status`: what it does now; `layer`: the digest under way, the `layer_number`th of `layers`. `refetched_bytes`:
    what had come, was lost and is fetched again. `broken`: only of verify and repair. After a cancel `kept_bytes` is
    what stays on disk of its layers, `purged_bytes` what a purge has freed.
    """

    id: str
    kind: str
    model: str | None
    state: str
    status: str | None
    total: int | None
    completed: int
    speed_bytes_per_s: float | None
    eta_s: float | None
    layer: str | None
    layer_number: int | None
    layers: int | None
    attempts: int
    refetched_bytes: int
    error: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    next_attempt_at: str | None
    broken: tuple[BrokenModelView, ...] | None = None
    kept_bytes: int | None = None
    purged_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PullsView:
    """The body of `GET /api/models/pulls`, newest first."""

    pulls: tuple[PullJobView, ...]


@dataclass(frozen=True, slots=True)
class PullFiguresView:
    """How far the whole pull is, beside each of Ollama's lines; `layer` is the number of the one under way."""

    id: str
    state: str
    attempt: int
    layer: int | None
    layers: int | None
    total: int | None
    completed: int
    speed_bytes_per_s: float | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class PullLineView:
    """A line of a pull as Ollama sends it, or the only object without `stream`; absent is what a line has not.

    `digest`, `total`, `completed`: of one layer; of the whole pull where the status is `resuming`. `reason`: why
    another attempt is made, `retry_in_s` in how many seconds.
    """

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType | None = UNSET
    completed: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    retry_in_s: float | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    job: PullFiguresView | UnsetType = UNSET


def job_view(job: JobView, *, kept_bytes: int | None = None, purged_bytes: int | None = None) -> PullJobView:
    """A job at one instant."""
    broken = job.broken
    return PullJobView(
        id=job.id,
        kind=job.kind,
        model=job.model,
        state=job.state.value,
        status=job.status,
        total=job.total,
        completed=job.completed,
        speed_bytes_per_s=_rounded(job.speed_bytes_per_s),
        eta_s=_rounded(job.eta_s),
        layer=job.layer,
        layer_number=job.layer_number,
        layers=job.layers,
        attempts=job.attempts,
        refetched_bytes=job.refetched_bytes,
        error=job.error,
        created_at=rfc3339(job.created_at),
        started_at=rfc3339(job.started_at),
        finished_at=rfc3339(job.finished_at),
        next_attempt_at=rfc3339(job.next_attempt_at),
        broken=None if broken is None else tuple(BrokenModelView(it.name, it.reason) for it in broken),
        kept_bytes=kept_bytes,
        purged_bytes=purged_bytes,
    )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)
