"""`/api/models/pull`. A pull is the daemon's: it goes on when whoever asked for it leaves."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from arasul_supervisor.api.answers import LineStream, Reply
from arasul_supervisor.api.model_fields import MUST_NAME_A_MODEL, NamedModel
from arasul_supervisor.api.pull_views import PullJobView, PullLineView, job_view
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import (
    ArasulError,
    DiskFull,
    EngineDown,
    EngineRefused,
    EngineSilent,
    ModelNotFound,
    RegistryError,
)
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.pulls.jobs import TooManyPulls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from arasul_supervisor.api.answers import Answer, Line
    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.pulls.feed import PullFeed
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.jobs import PullJobs


@dataclass(frozen=True, slots=True)
class PullBody(NamedModel):
    """What to pull, and how to hear of it.

    `stream` false: one object when it is done. `background`: 202 and the job. `insecure`: a registry without TLS.
    `cancel_on_disconnect`: the pull ends when the last client that watches it leaves.
    """

    stream: bool = True
    background: bool = False
    insecure: bool = False
    cancel_on_disconnect: bool = False


class Pulls:
    """Starts and watches pulls; those that are under way are listed by `jobs.py`."""

    def __init__(self, access: EngineAccess, jobs: PullJobs) -> None:
        self._access = access
        self._jobs = jobs
        self._cancels: set[asyncio.Task[object]] = set()
        self._is_closing = False

    def routes(self) -> tuple[Route, ...]:
        """The one."""
        return (
            Route(
                "POST",
                "/api/models/pull",
                self.pull,
                "Pull a model; the lines are Ollama's own",
                {200: PullLineView, 202: PullJobView},
                body=PullBody,
                body_rule=MUST_NAME_A_MODEL,
                streams=True,
                notes="With `stream` (the default) the body is NDJSON; the last line has `status` success or `error`.",
                errors=(
                    ModelNotFound,
                    EngineRefused,
                    RegistryError,
                    EngineDown,
                    EngineSilent,
                    DiskFull,
                    TooManyPulls,
                ),
            ),
        )

    async def pull(self, call: Call) -> Answer:
        """Begin a pull, or join the one of that model that is under way."""
        body = call.body_as(PullBody)
        name = body.checked_name()
        if self._jobs.pulling(name) is None:
            self._access.require_up()
        job = self._jobs.begin(
            name,
            is_insecure=body.insecure,
            is_kept=body.background or not body.cancel_on_disconnect,
        )
        if body.background:
            await self._jobs.noted()
            return Reply(job_view(job.view()), 202)
        feed = job.subscribe()
        if body.stream:
            return LineStream(self._lines(job, feed), partial(self._client_gone, job, feed))
        return await self._wait(job, feed)

    async def close(self) -> None:
        """No client that is cut off from now on cancels its pull; cancels under way are ended."""
        self._is_closing = True
        for task in tuple(self._cancels):
            task.cancel()
        if self._cancels:
            await asyncio.wait(tuple(self._cancels))

    async def _wait(self, job: PullJob, feed: PullFeed) -> Reply:
        try:
            await job.ended()
        except asyncio.CancelledError:
            self._client_gone(job, feed)
            raise
        job.unsubscribe(feed)
        if job.state is JobState.DONE:
            return Reply(PullLineView(status="success"))
        raise job.failure or job.setback or ArasulError(f"The pull of {job.model} has ended.")

    async def _lines(self, job: PullJob, feed: PullFeed) -> AsyncGenerator[Line, None]:
        """All of them, though the first is told only when the pull outlives the daemon."""
        try:
            await self._jobs.noted()
            async with aclosing(feed.lines()) as lines:
                async for line in lines:
                    yield line
        finally:
            job.unsubscribe(feed)

    def _client_gone(self, job: PullJob, feed: PullFeed) -> None:
        """A client has left, maybe before its first line.

        Others that watch, and whoever asked for the pull to go on, keep it.
        """
        job.unsubscribe(feed)
        if self._is_closing or job.is_kept or job.is_watched:
            return
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(
            self._jobs.cancel(job.id), name=f"pull-{job.id}-cancel"
        )  # Any: what it returns is dropped
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
