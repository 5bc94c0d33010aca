"""One pull as it is seen from outside: its state, its figures and its watchers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.pulls.feed import PullFeed
from arasul_supervisor.ollama.pulls.lines import SUCCESS, PullLine
from arasul_supervisor.ollama.pulls.progress import PullProgress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.errors import ArasulError


class PullState(str, Enum):
    """The words of CONTRACT §4."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({PullState.DONE, PullState.FAILED, PullState.CANCELLED})


@dataclass(frozen=True, slots=True)
class PullView:
    """A pull at one instant. Bytes are sums over the layers known so far; `_at` are epoch seconds."""

    id: str
    model: str
    state: str
    total: int | None
    completed: int
    speed_bytes_per_s: float | None
    eta_s: float | None
    attempts: int
    error: str | None
    started_at: float | None
    finished_at: float | None
    kind: str = "pull"


class PullJob:
    """One pull. Its run (`pull_run`) changes it; everybody else reads and watches."""

    def __init__(self, job_id: str, model: str, *, real: str, is_insecure: bool, clock: Clock) -> None:
        self.id = job_id
        self.model = model
        self.real = real
        self.is_insecure = is_insecure
        self.progress = PullProgress()
        self.attempts = 0
        self.failure: ArasulError | None = None
        self._setback: ArasulError | None = None
        self._clock = clock
        self._state = PullState.QUEUED
        self._started_at: float | None = None
        self._finished_at: float | None = None
        self._layers: dict[str, PullLine] = {}
        self._current = PullLine(PullState.QUEUED.value)
        self._feeds: set[PullFeed] = set()
        self._has_ended = asyncio.Event()

    @property
    def state(self) -> PullState:
        """Where the pull stands."""
        return self._state

    @property
    def is_active(self) -> bool:
        """True until it is done, failed or cancelled."""
        return self._state not in ENDED

    def concerns(self, name: str) -> bool:
        """True when that model is what it pulls, by the asked or by the real name."""
        return same_model(name, self.model) or same_model(name, self.real)

    def view(self) -> PullView:
        """The pull as it is now; speed and time left while it runs, the last setback while it is retried."""
        now_mono = self._clock.mono()
        is_running = self._state is PullState.RUNNING
        error = self._setback if self._state is PullState.RETRYING else self.failure
        return PullView(
            id=self.id,
            model=self.model,
            state=self._state.value,
            total=self.progress.total_bytes,
            completed=self.progress.completed_bytes,
            speed_bytes_per_s=self.progress.speed_bytes_per_s(now_mono) if is_running else None,
            eta_s=self.progress.eta_s(now_mono) if is_running else None,
            attempts=self.attempts,
            error=error.sentence if error is not None else None,
            started_at=self._started_at,
            finished_at=self._finished_at,
        )

    async def watch(self) -> AsyncGenerator[Mapping[str, object], None]:
        """The lines of the pull: at once where it stands, then each step, last `success` or an `error`."""
        feed = PullFeed()
        if self.is_active:
            for known in (*self._layers.values(), self._current):
                feed.push(known)
        else:
            feed.end(self._last_line())
        self._feeds.add(feed)
        try:
            async with aclosing(feed.lines()) as lines:
                async for line in lines:
                    yield line
        finally:
            self._feeds.discard(feed)

    async def ended(self) -> PullView:
        """The view at its end; waits for it without a bound."""
        await self._has_ended.wait()
        return self.view()

    # What follows is for the run of this pull and its owner.

    def begin_attempt(self) -> None:
        """A try begins; the first line of it is said here, so that a watcher sees it at once."""
        if self._started_at is None:
            self._started_at = self._clock.wall()
        self._state = PullState.RUNNING
        self.attempts += 1
        self.note(PullLine("pulling manifest"))

    def note(self, line: PullLine) -> None:
        """A step that Ollama reported."""
        if line.digest is None and line == self._current:
            return
        self._current = line
        self.progress.note(line, self._clock.mono())
        if line.digest in self.progress.digests and line.digest is not None:
            self._layers[line.digest] = line
        for feed in self._feeds:
            feed.push(line)

    def begin_retry(self, error: ArasulError) -> None:
        """A try failed and another will follow."""
        self._state = PullState.RETRYING
        self._setback = error
        self._current = PullLine("resuming")
        for feed in self._feeds:
            feed.push_raw("resuming", {"status": "resuming", "reason": error.sentence})

    def succeed(self) -> None:
        """The model is there and was seen."""
        self._end(PullState.DONE)

    def fail(self, error: ArasulError) -> None:
        """It is given up."""
        if self.is_active:
            self.failure = error
        self._end(PullState.FAILED)

    def cancel(self, error: ArasulError) -> None:
        """Somebody ended it."""
        if self.is_active:
            self.failure = error
        self._end(PullState.CANCELLED)

    def _end(self, state: PullState) -> None:
        if not self.is_active:
            return
        self._state = state
        self._finished_at = self._clock.wall()
        for feed in self._feeds:
            feed.end(self._last_line())
        self._has_ended.set()

    def _last_line(self) -> Mapping[str, object]:
        if self.failure is not None:
            return {"error": self.failure.sentence, "code": self.failure.code}
        return {"status": SUCCESS}
