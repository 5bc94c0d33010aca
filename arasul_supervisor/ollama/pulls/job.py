"""One pull as it is seen from outside: its state, its figures and its watchers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.ollama.job_view import ENDED, JobState, JobView
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.pull_lines import SUCCESS, PullLine
from arasul_supervisor.ollama.pulls.feed import Watchers
from arasul_supervisor.ollama.pulls.progress import PullProgress
from arasul_supervisor.ollama.pulls.told import error_line, resuming_line, retry_line, with_figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.errors import ArasulError
    from arasul_supervisor.model_store.parts import LayerOnDisk
    from arasul_supervisor.ollama.pulls.feed import PullFeed
    from arasul_supervisor.ollama.pulls.order import JobFigures, PullOrder

KIND: Final = "pull"
FIRST_STATUS: Final = "pulling manifest"
QUEUED: Final = JobState.QUEUED.value


class PullJob:
    """One pull. Its run changes it; everybody else reads and watches.

    `is_kept`: it goes on when all its clients have left. `real_was_there`: whether the tag behind an alias was
    installed before; None until it was looked at. `needs_real`: that tag must stay until it was copied.
    `is_there`: the model was seen whole, which is written down before it is told. `is_idle` is set but while Ollama
    is asked, or about to be, for its layers; `holds_room` while what it still needs on the disk is promised to it.
    """

    def __init__(
        self,
        order: PullOrder,
        clock: Clock,
        *,
        attempts: int = 0,
        started_at: float | None = None,
        real_was_there: bool | None = None,
    ) -> None:
        self.order = order
        self.progress = PullProgress()
        self.attempts = attempts
        self._is_counted = True
        self.real_was_there = real_was_there
        self.failure: ArasulError | None = None
        self.setback: ArasulError | None = None
        self.is_kept = self.is_there = False
        self.needs_real = order.is_alias
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self.holds_room = False
        self.free_when_parked: int | None = None
        self.n_parked = 0
        self.unparked = asyncio.Event()
        self._clock = clock
        self._state = JobState.QUEUED
        self._is_parked = False
        self._before: JobFigures | None = None
        self._started_at = started_at
        self._finished_at: float | None = None
        self._next_attempt_at: float | None = None
        self._layers: dict[str, PullLine] = {}
        self._current = PullLine(QUEUED)
        self._watchers = Watchers()
        self._was_told_off = asyncio.Event()

    @property
    def id(self) -> str:
        """The name of the job."""
        return self.order.id

    @property
    def model(self) -> str:
        """The asked name."""
        return self.order.model

    @property
    def state(self) -> JobState:
        """Where the pull stands."""
        return self._state

    @property
    def is_active(self) -> bool:
        """True until it is done, failed or cancelled."""
        return self._state not in ENDED

    @property
    def is_parked(self) -> bool:
        """True while it waits for room on the disk, without a slot."""
        return self._is_parked

    @property
    def finished_at(self) -> float | None:
        """When it ended, in epoch seconds."""
        return self._finished_at

    @property
    def has_begun(self) -> bool:
        """True once any of its bytes were on disk, in an earlier life of the daemon too."""
        return self._figures().completed > 0

    def concerns(self, name: str) -> bool:
        """True when that model is what it pulls, by the asked or by the real name."""
        return same_model(name, self.order.model) or same_model(name, self.order.real)

    def view(self) -> JobView:
        """The pull as it is now; speed and time left while it runs, the last setback while it is retried."""
        now_mono = self._clock.mono()
        is_running = self._state is JobState.RUNNING
        error = self.setback if self._state is JobState.RETRYING else self.failure
        progress, figures = self.progress, self._figures()
        return JobView(
            id=self.order.id,
            kind=KIND,
            model=self.order.model,
            state=self._state,
            created_at=self.order.created_at,
            total=figures.total,
            completed=figures.completed,
            speed_bytes_per_s=progress.speed_bytes_per_s(now_mono) if is_running else None,
            eta_s=progress.eta_s(now_mono) if is_running else None,
            attempts=self.attempts,
            refetched_bytes=progress.refetched_bytes,
            status=self._current.status if self.is_active else None,
            layer=progress.layer if is_running else None,
            layer_number=progress.layer_number if is_running else None,
            layers=figures.layers,
            error=error.sentence if error is not None else None,
            started_at=self._started_at,
            finished_at=self._finished_at,
            next_attempt_at=self._next_attempt_at if self._state is JobState.RETRYING else None,
        )

    def subscribe(self) -> PullFeed:
        """The lines of the pull from now on: at once where it stands, then each step, last `success` or an `error`.

        To be given back to `unsubscribe`.
        """
        if not self.is_active:
            return self._watchers.enter({}, last=self._last_line())
        view = self.view()
        known = (*self._layers.values(), self._current)
        return self._watchers.enter(
            {line.digest or line.status: with_figures(line.as_json(), view) for line in known}
        )

    @property
    def is_watched(self) -> bool:
        """True while anybody reads its lines, or waits for its end with a feed of its own."""
        return bool(self._watchers)

    def unsubscribe(self, feed: PullFeed) -> None:
        """Nobody reads it any more."""
        self._watchers.leave(feed)

    async def ended(self) -> JobView:
        """The view once whoever waits for it must be told: at its end, or when it can only go on later.

        Waits without a bound.
        """
        if self.is_active:
            await self._was_told_off.wait()
        return self.view()

    @property
    def digests(self) -> tuple[str, ...]:
        """The layers, as far as they are known."""
        return self.progress.digests or (self._before.digests if self._before is not None else ())

    # What follows is for the run of this pull and its owner.

    def restore(
        self,
        state: JobState,
        figures: JobFigures,
        *,
        failure: ArasulError | None,
        finished_at: float | None,
    ) -> None:
        """How an earlier life of the daemon left it; what had not ended stays queued."""
        self._before = figures
        if state in ENDED:
            self._state, self.failure, self._finished_at = state, failure, finished_at

    def begin_attempt(self) -> None:
        """A try begins; the first line of it is said here, so that a watcher sees it at once."""
        if self._started_at is None:
            self._started_at = self._clock.wall()
        self._state = JobState.RUNNING
        self.needs_real = self.order.is_alias
        self._is_counted = False
        self.progress.forget_gain()
        if self.attempts == 0:
            self._count_attempt()
            self.note(PullLine(FIRST_STATUS))

    def await_turn(self, status: str) -> None:
        """It cannot go on before another has; the status says which, or that it is queued."""
        self._state, self._current = JobState.QUEUED, PullLine(status)
        self._tell(status, self._current.as_json())

    def end_attempt(self) -> None:
        """Nothing is asked for any more."""
        self._count_attempt()
        self.holds_room = False
        self.is_idle.set()

    def begin_fetching(self, on_disk: Iterable[LayerOnDisk]) -> None:
        """What the attempt begins with is known; a later attempt says it."""
        self.is_idle.clear()
        self._before = None
        self._state = JobState.RUNNING
        self._count_attempt()
        self.progress.begin_attempt(on_disk)
        self._layers.clear()
        if self.attempts == 1:
            self.note(PullLine(FIRST_STATUS))  # again, where it had to wait for another
            return
        self._current = PullLine("resuming")
        line = resuming_line(self.setback, self.attempts, self.progress)
        self._tell("resuming", line)

    def note(self, line: PullLine) -> None:
        """A step that Ollama reported; its figures never go back within an attempt."""
        if line.digest is None and line == self._current:
            return
        self.progress.note(line, self._clock.mono())
        if line.digest is not None and self.progress.knows(line.digest):
            line = PullLine(line.status, line.digest, line.total, self.progress.completed_of(line.digest))
            self._layers[line.digest or ""] = line
        self._current = line
        self._tell(line.digest or line.status, line.as_json())

    def begin_retry(self, error: ArasulError, wait_s: float) -> None:
        """A try failed and another will follow after that many seconds."""
        self._state = JobState.RETRYING
        self.setback = error
        self._next_attempt_at = self._clock.wall() + wait_s
        self._current = PullLine("waiting to retry")
        self._tell("waiting to retry", retry_line(error, wait_s))

    def park(self, error: ArasulError, *, free_bytes: int | None) -> None:
        """It can only go on when there is room on the disk: whoever waits for it is told so now."""
        if not self.is_active:
            return
        self.free_when_parked = free_bytes
        self.n_parked += 1
        self._state, self._is_parked = JobState.RETRYING, True
        self.unparked.clear()
        self.setback, self._next_attempt_at = error, None
        self._current = PullLine("waiting for room on the disk")
        self._let_go(error)

    def unpark(self) -> None:
        """It is queued again."""
        self._state, self._is_parked = JobState.QUEUED, False
        self.unparked.set()
        self._current = PullLine(QUEUED)
        self._was_told_off.clear()

    def suspend(self, error: ArasulError) -> None:
        """The daemon ends; the next one goes on with this pull."""
        if self.is_active:
            self._state, self._is_parked = JobState.QUEUED, False
            self.setback = error
            self._let_go(error)

    def succeed(self) -> None:
        """The model is there and was seen."""
        self._end(JobState.DONE)

    def fail(self, error: ArasulError) -> None:
        """It is given up."""
        if self.is_active:
            self.failure = error
        self._end(JobState.FAILED)

    def cancel(self, error: ArasulError) -> None:
        """Somebody ended it."""
        if self.is_active:
            self.failure = error
        self._end(JobState.CANCELLED)

    def _end(self, state: JobState) -> None:
        if not self.is_active:
            return
        self._state, self._is_parked = state, False
        self._finished_at = self._clock.wall()
        self._watchers.end(self._last_line())
        self._was_told_off.set()

    def _figures(self) -> JobFigures:
        """Those of an earlier life hold until this one has looked at the disk."""
        return self._before or self.progress.figures

    def _count_attempt(self) -> None:
        """Once its figures hold, or it failed before: those of the attempt before may be higher."""
        self.attempts += not self._is_counted
        self._is_counted = True

    def _let_go(self, error: ArasulError) -> None:
        self._watchers.end(error_line(error))
        self._was_told_off.set()

    def _tell(self, key: str, line: Mapping[str, object]) -> None:
        if self._watchers:
            self._watchers.tell(key, with_figures(line, self.view()))

    def _last_line(self) -> Mapping[str, object]:
        return {"status": SUCCESS} if self.failure is None else error_line(self.failure)
