"""`POST /api/models/verify` and `repair`: jobs that are listed, looked at and cancelled among the pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.pull_views import PullJobView, job_view
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import EngineDown, ModelNotFound
from arasul_supervisor.model_store.reader import StoreUnread

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.checks.jobs import CheckJobs

# A look at the names in the store takes a millisecond; on a network that hangs, this long.
BEGIN_BOUND_S: Final = 3.0
ERRORS: Final = (ModelNotFound, StoreUnread, EngineDown)


class Checks:
    """Begins checks of one model or of all."""

    def __init__(self, checks: CheckJobs) -> None:
        self._checks = checks

    def routes(self) -> tuple[Route, ...]:
        """Two beginnings."""
        return (
            Route(
                "POST",
                "/api/models/verify",
                self.verify,
                "Compare the blobs of a model, or of all, with their digests",
                {202: PullJobView},
                bound_s=BEGIN_BOUND_S,
                body=NamedModel,
                notes="A job as for pulls; once it is `done`, `broken` names every model that is not whole.",
                errors=ERRORS,
            ),
            Route(
                "POST",
                "/api/models/repair",
                self.repair,
                "Verify, and fetch the broken blobs anew",
                {202: PullJobView},
                bound_s=BEGIN_BOUND_S,
                body=NamedModel,
                notes="A job as for pulls; it is `failed` when `broken` still names a model, each with the reason.",
                errors=ERRORS,
            ),
        )

    async def verify(self, call: Call) -> Reply:
        """Begin to verify, or join who does already."""
        job = await self._checks.begin_verify(_name(call))
        return Reply(job_view(job.view()), 202)

    async def repair(self, call: Call) -> Reply:
        """Begin to repair, or join who does already."""
        job = await self._checks.begin_repair(_name(call))
        return Reply(job_view(job.view()), 202)


def _name(call: Call) -> str | None:
    named = call.body_as(NamedModel)
    return named.checked_name() if named.is_given else None
