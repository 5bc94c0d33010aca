"""`/api/models/pull` and the list of pulls. A pull is the daemon's: it goes on when whoever asked for it leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.api.answers import LineStream, Reply
from arasul_supervisor.api.model_fields import MUST_NAME_A_MODEL, NamedModel
from arasul_supervisor.api.pull_views import PullJobView, PullLineView, PullsView, job_view
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import (
    ArasulError,
    DiskFull,
    EngineDown,
    EngineRefused,
    EngineSilent,
    ModelNotFound,
    PullNotFound,
    RegistryError,
)
from arasul_supervisor.model_store.parts import remove_parts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from arasul_supervisor.api.answers import Answer, Line
    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.jobs import PullJobs

CANCEL_BOUND_S: Final = 10.0
# Ollama writes its notes beside the parts within 0.2 s of the end of a pull's connection (facts/ollama.md §0.9).
PART_NOTES_S: Final = 0.3


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


@dataclass(frozen=True, slots=True)
class PurgeQuery:
    """Whether to remove the unfinished parts of the pull too."""

    purge: bool = False


class Pulls:
    """Starts, watches, lists and cancels pulls.

    :param store: the folder of the models, where it is known: what `?purge=true` looks into
    """

    def __init__(self, access: EngineAccess, jobs: PullJobs, *, store: Path | None) -> None:
        self._access = access
        self._jobs = jobs
        self._store = store
        self._watchers: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._cancels: set[asyncio.Task[object]] = set()
        self._is_closing = False

    def routes(self) -> tuple[Route, ...]:
        """One start, three looks and a cancel."""
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
                errors=(ModelNotFound, EngineRefused, RegistryError, EngineDown, EngineSilent, DiskFull),
            ),
            Route("GET", "/api/models/pulls", self.all, "All pulls, newest first", {200: PullsView}),
            Route(
                "GET",
                "/api/models/pulls/{id}",
                self.one,
                "One pull",
                {200: PullJobView},
                errors=(PullNotFound,),
            ),
            Route(
                "DELETE",
                "/api/models/pulls/{id}",
                self.cancel,
                "Cancel a pull; with `purge` remove its unfinished parts too",
                {200: PullJobView},
                bound_s=CANCEL_BOUND_S,
                query=PurgeQuery,
                errors=(PullNotFound, EngineSilent),
            ),
        )

    async def pull(self, call: Call) -> Answer:
        """Begin a pull, or join the one of that model that is under way."""
        body = call.body_as(PullBody)
        name = body.checked_name()
        if not self._jobs.is_pulling(name):
            self._access.require_up()
        job = self._jobs.begin(name, is_insecure=body.insecure)
        self._forget_ended()
        if body.background or not body.cancel_on_disconnect:
            self._kept.add(job.id)
        if body.background:
            return Reply(job_view(job.view()), 202)
        if body.stream:
            on_client_gone = partial(self._cancel_unless_wanted, job.id)
            return LineStream(self._lines(job), on_client_gone)
        return await self._wait(job)

    def all(self, call: Call) -> Reply:
        """All that are remembered."""
        return Reply(PullsView(tuple(job_view(job.view()) for job in self._jobs.jobs())))

    def one(self, call: Call) -> Reply:
        """One of them."""
        return Reply(job_view(self._job(call).view()))

    async def cancel(self, call: Call) -> Reply:
        """Cancel; one that has ended stays as it is."""
        job = await self._jobs.cancel(self._job(call).id)
        if not call.query_as(PurgeQuery).purge:
            return Reply(job_view(job.view()))
        return Reply(job_view(job.view(), purged_bytes=await self._purge(job)))

    async def close(self) -> None:
        """No client that is cut off from now on cancels its pull; cancels under way are ended."""
        self._is_closing = True
        for task in tuple(self._cancels):
            task.cancel()
        if self._cancels:
            await asyncio.wait(tuple(self._cancels))

    def _job(self, call: Call) -> PullJob:
        job_id = call.path["id"]
        try:
            return self._jobs.job(job_id)
        except PullNotFound:
            raise PullNotFound(
                f"No pull {job_id[:64]!r} is known.", hint="GET /api/models/pulls lists them."
            ) from None

    async def _wait(self, job: PullJob) -> Reply:
        self._watchers[job.id] += 1
        try:
            await job.ended()
        except asyncio.CancelledError:
            self._watchers[job.id] -= 1
            self._cancel_unless_wanted(job.id)
            raise
        self._watchers[job.id] -= 1
        if job.failure is not None:
            raise job.failure
        return Reply(PullLineView(status="success"))

    async def _lines(self, job: PullJob) -> AsyncGenerator[Line, None]:
        self._watchers[job.id] += 1
        try:
            async with aclosing(job.watch()) as lines:
                async for line in lines:
                    yield line
        finally:
            self._watchers[job.id] -= 1

    def _cancel_unless_wanted(self, job_id: str) -> None:
        """A client has left. Others that watch, and whoever asked for the pull to go on, keep it."""
        if self._is_closing or job_id in self._kept or self._watchers[job_id] > 0:
            return
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(
            self._jobs.cancel(job_id), name=f"pull-{job_id}-cancel"
        )  # Any: what it returns is dropped
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    def _forget_ended(self) -> None:
        known = {job.id for job in self._jobs.jobs()}
        self._kept &= known
        for job_id in [job_id for job_id, watchers in self._watchers.items() if not watchers]:
            del self._watchers[job_id]

    async def _purge(self, job: PullJob) -> int:
        """Bytes freed on disk. Layers that another pull fetches are left to it."""
        if self._store is None:
            raise ArasulError("The folder of the models is not known, so that no parts were removed.")
        wanted = {
            digest
            for other in self._jobs.jobs()
            if other.is_active and other is not job
            for digest in other.progress.digests
        }
        digests = tuple(digest for digest in job.progress.digests if digest not in wanted)
        await asyncio.sleep(PART_NOTES_S)
        return await asyncio.to_thread(remove_parts, self._store, digests)
