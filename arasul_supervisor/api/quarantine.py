"""`/api/models/quarantine`: the models that killed the engine, and the way back for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.clock import rfc3339
from arasul_supervisor.errors import NotQuarantined
from arasul_supervisor.ollama.names import MAX_NAME_CHARS

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.healing.aftermath.quarantine import Quarantine


@dataclass(frozen=True, slots=True)
class QuarantinedView:
    """One model, with the reason as a sentence and how many crashes it is said to have caused."""

    name: str
    reason: str
    crashes: int
    since_at: str | None


@dataclass(frozen=True, slots=True)
class QuarantinedModelsView:
    """The models that are kept from the engine."""

    quarantined: tuple[QuarantinedView, ...]
    count: int


@dataclass(frozen=True, slots=True)
class LiftedView:
    """The body of a quarantine that was lifted."""

    message: str
    status: str = "success"


class QuarantinedModels:
    """Shows the quarantine, and lifts it."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def routes(self) -> tuple[Route, ...]:
        """A look and a lift."""
        return (
            Route(
                "GET",
                "/api/models/quarantine",
                self.all,
                "The models that are kept from the engine because they killed it",
                {200: QuarantinedModelsView},
            ),
            Route(
                "DELETE",
                "/api/models/quarantine/{name}",
                self.lift,
                "Let a model be used again",
                {200: LiftedView},
                notes="The name is one part of the path: a `/` in it is written `%2F`.",
                errors=(NotQuarantined,),
            ),
        )

    def all(self, call: Call) -> Reply:
        """All of them."""
        views = tuple(
            QuarantinedView(model.name, model.reason, model.crashes, rfc3339(model.since_at))
            for model in self._quarantine.entries()
        )
        return Reply(QuarantinedModelsView(views, len(views)))

    def lift(self, call: Call) -> Reply:
        """Lift one."""
        name = call.path["name"]
        if not self._quarantine.lift(name):
            raise NotQuarantined(
                f"{name[:MAX_NAME_CHARS]} is not quarantined.",
                hint="GET /api/models/quarantine lists the models that are.",
            )
        return Reply(LiftedView(f"{name} may be used again."))
