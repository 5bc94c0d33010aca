"""Pulls as the journal keeps them: from a job to its record and back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.ollama.job_view import ENDED, JobState
from arasul_supervisor.ollama.pulls.job import PullJob
from arasul_supervisor.ollama.pulls.journal import PullRecord
from arasul_supervisor.ollama.pulls.order import JobFigures, PullOrder

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock


# For ?purge=true after a restart; the thousands of a model in safetensors would swell the journal.
MAX_DIGESTS: Final = 256


class _PastFailure(ArasulError):
    """What ended a pull in an earlier life of the daemon."""

    code = "pull_failed"


def record_of(job: PullJob) -> PullRecord:
    """What the daemon's next life needs of it."""
    view, order = job.view(), job.order
    return PullRecord(
        id=order.id,
        model=order.model,
        real=order.real,
        insecure=order.is_insecure,
        state=(JobState.DONE if job.is_there and job.is_active else view.state).value,
        created_at=order.created_at,
        attempts=view.attempts,
        started_at=view.started_at,
        finished_at=view.finished_at,
        total=view.total,
        completed=view.completed,
        layers=view.layers,
        error=view.error,
        is_kept=job.is_kept,
        real_was_there=job.real_was_there,
        digests=job.digests if len(job.digests) <= MAX_DIGESTS else (),
    )


def job_of(record: PullRecord, clock: Clock) -> PullJob:
    """The job; one that had not ended is queued again."""
    order = PullOrder(record.id, record.model, record.real, record.insecure, record.created_at)
    job = PullJob(
        order,
        clock,
        attempts=record.attempts,
        started_at=record.started_at,
        real_was_there=record.real_was_there,
    )
    job.is_kept = record.is_kept
    state, error = _state_of(record)
    job.restore(
        state,
        JobFigures(record.total, record.completed, record.layers, record.digests),
        failure=_PastFailure(error) if error is not None else None,
        finished_at=record.finished_at or clock.wall(),
    )
    return job


def _state_of(record: PullRecord) -> tuple[JobState, str | None]:
    state = next((state for state in JobState if state.value == record.state), JobState.QUEUED)
    if state in ENDED:
        return state, record.error if state is not JobState.DONE else None
    if not record.is_kept:
        return JobState.CANCELLED, "The client that this pull was for left when the daemon ended."
    return JobState.QUEUED, None
