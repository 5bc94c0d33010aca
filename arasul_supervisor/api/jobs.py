"""`/api/models/pulls`: the jobs of the daemon, whatever they do to models; and the cancel of one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.pull_views import PullJobView, PullsView, job_view
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import EngineSilent, PullNotFound
from arasul_supervisor.model_store.purging import Purged, held_bytes, purge
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.ollama.job_view import ENDED
from arasul_supervisor.supervision.open_files import open_files

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.checks.job import CheckJob
    from arasul_supervisor.ollama.checks.jobs import CheckJobs
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.jobs import PullJobs

CANCEL_BOUND_S: Final = 10.0
LOOK_S: Final = 5.0
# Ollama writes its notes beside the parts within 0.2 s of the end of a pull's connection (facts/ollama.md §0.9).
PART_NOTES_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class PurgeQuery:
    """Whether to remove what the pull has brought so far, too."""

    purge: bool = False


class Jobs:
    """Lists and cancels pulls, verifications and repairs."""

    def __init__(
        self, access: EngineAccess, pulls: PullJobs, checks: CheckJobs, *, store: StoreReader
    ) -> None:
        self._access, self._pulls, self._checks, self._store = access, pulls, checks, store

    def routes(self) -> tuple[Route, ...]:
        """Two looks and a cancel."""
        return (
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
                "Cancel a pull; with `purge` remove what it has brought so far, too",
                {200: PullJobView},
                bound_s=CANCEL_BOUND_S,
                query=PurgeQuery,
                notes="Verifications and repairs are cancelled the same way.",
                errors=(PullNotFound, EngineSilent),
            ),
        )

    def all(self, call: Call) -> Reply:
        """All that are remembered."""
        views = (
            *(pull.view() for pull in self._pulls.jobs()),
            *(check.view() for check in self._checks.jobs()),
        )
        newest_first = sorted(views, key=lambda view: view.created_at, reverse=True)  # stable: in their order
        return Reply(PullsView(tuple(map(job_view, newest_first))))

    def one(self, call: Call) -> Reply:
        """One of them."""
        return Reply(job_view(self._job(call).view()))

    async def cancel(self, call: Call) -> Reply:
        """Cancel; one that has ended stays as it is."""
        job = self._job(call)
        if job in self._checks.jobs():
            return Reply(job_view((await self._checks.cancel(job.id)).view()))
        was_active = job.view().state not in ENDED
        pull = await self._pulls.cancel(job.id)
        if call.query_as(PurgeQuery).purge:
            if was_active:
                await asyncio.sleep(PART_NOTES_S)
            purged = await self._purge(pull)
            return Reply(job_view(pull.view(), kept_bytes=purged.kept_bytes, purged_bytes=purged.freed_bytes))
        return Reply(job_view(pull.view(), kept_bytes=await self._kept_bytes(pull)))

    def _job(self, call: Call) -> PullJob | CheckJob:
        job_id = call.path["id"]
        for jobs in (self._pulls, self._checks):
            try:
                return jobs.job(job_id)
            except PullNotFound:
                continue
        raise PullNotFound(f"No pull {job_id[:64]!r} is known.", hint="GET /api/models/pulls lists them.")

    async def _kept_bytes(self, job: PullJob) -> int | None:
        """What stays on disk of the pull's layers; None when that cannot be seen."""
        digests = job.digests
        try:
            return await self._store.call(lambda store: held_bytes(store, digests), timeout_s=LOOK_S)
        except StoreUnread:
            return None

    async def _purge(self, job: PullJob) -> Purged:
        """Removes what the pull has brought so far.

        What another pull fetches is left to it, and so is what somebody else has open: `ollama pull` in a terminal
        shares the parts with ours.

        :raises StoreUnread: the pull is cancelled, and what it has brought is still there
        """
        wanted, engine_pid = self._pulls.others.digests(None), self._access.engine.snapshot.pid
        digests = job.digests

        def remove(store: Path) -> Purged:
            return purge(store, digests, wanted=wanted, open_files=open_files(engine_pid, store))

        try:
            return await self._store.call(remove, timeout_s=LOOK_S)
        except StoreUnread as error:
            raise StoreUnread(
                f"The pull is cancelled, and what it has brought stays: {error.sentence}"
            ) from error
