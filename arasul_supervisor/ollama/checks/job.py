"""One check as it is seen from outside: its state, its figures, and what it found."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

from arasul_supervisor.ollama.checks.progress import CheckProgress
from arasul_supervisor.ollama.job_view import ENDED, BrokenModel, JobState, JobView
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.errors import ArasulError


class CheckKind(str, Enum):
    """What a check is for."""

    VERIFY = "verify"
    REPAIR = "repair"


class CheckJob:
    """One check. Its run changes it; everybody else reads it."""

    def __init__(self, job_id: str, kind: CheckKind, model: str | None, *, clock: Clock) -> None:
        """Wait in the queue. `model`: None for all."""
        self.id = job_id
        self.kind = kind
        self.model = model
        self.progress = CheckProgress()
        self.broken: tuple[BrokenModel, ...] = ()
        self.failure: ArasulError | None = None
        self._clock = clock
        self._state = JobState.QUEUED
        self._status: str | None = JobState.QUEUED.value
        self._created_at = clock.wall()
        self._started_at: float | None = None
        self._finished_at: float | None = None
        self._has_ended = asyncio.Event()

    @property
    def state(self) -> JobState:
        """Where it stands."""
        return self._state

    @property
    def is_active(self) -> bool:
        """True until it is done, failed or cancelled."""
        return self._state not in ENDED

    @property
    def finished_at(self) -> float | None:
        """When it ended, in epoch seconds."""
        return self._finished_at

    def is_for(self, kind: CheckKind, name: str | None) -> bool:
        """True when that is what it was asked for."""
        if self.kind is not kind or self.model is None or name is None:
            return self.kind is kind and self.model == name
        return same_model(self.model, name)

    def view(self) -> JobView:
        """The check as it is now; `broken` is what was found so far."""
        now_mono, progress = self._clock.mono(), self.progress
        return JobView(
            id=self.id,
            kind=self.kind.value,
            model=self.model,
            state=self._state,
            created_at=self._created_at,
            total=progress.total_bytes,
            completed=progress.completed_bytes,
            speed_bytes_per_s=progress.speed_bytes_per_s(now_mono) if self.is_active else None,
            eta_s=progress.eta_s(now_mono) if self.is_active else None,
            attempts=0 if self._started_at is None else 1,
            status=self._status if self.is_active else None,
            layer=progress.layer.digest if progress.layer is not None and self.is_active else None,
            layer_number=progress.n_begun or None,
            layers=progress.n_layers or None,
            error=self.failure.sentence if self.failure is not None else None,
            started_at=self._started_at,
            finished_at=self._finished_at,
            broken=self.broken,
        )

    async def ended(self) -> JobView:
        """The view at its end; waits for it without a bound."""
        await self._has_ended.wait()
        return self.view()

    # What follows is for the run of this check and its owner.

    def begin(self) -> None:
        """Its turn has come."""
        self._state = JobState.RUNNING
        self._started_at = self._clock.wall()

    def say(self, status: str) -> None:
        """What it does now."""
        self._status = status

    def succeed(self) -> None:
        """All was looked at, and for a repair all is whole."""
        self._end(JobState.DONE, None)

    def fail(self, error: ArasulError) -> None:
        """It could not look, or not mend all."""
        self._end(JobState.FAILED, error)

    def cancel(self, error: ArasulError) -> None:
        """Somebody ended it."""
        self._end(JobState.CANCELLED, error)

    def _end(self, state: JobState, error: ArasulError | None) -> None:
        if not self.is_active:
            return
        self._state = state
        self.failure = error
        self._finished_at = self._clock.wall()
        self._has_ended.set()
