"""`/api/incidents`: what happened, what was done about it, and whether it helped; from memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.clock import rfc3339
from arasul_supervisor.errors import BadInput, IncidentNotFound
from arasul_supervisor.healing.diagnosis.verdicts import Kind
from arasul_supervisor.healing.incidents.incident import Witnesses  # noqa: TC001  # msgspec reads it

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.healing.incidents.incident import Incident
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook

BOUND_S: Final = 5.0  # 50 ms is the promise; on a board that is busy a late page is better than none
MAX_LIMIT: Final = 200
KINDS: Final = tuple(kind.value for kind in Kind)

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)]
KindWord = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"enum": list(KINDS)})]


@dataclass(frozen=True, slots=True)
class IncidentQuery:
    """Which incidents: at most `limit`, of one `kind` or of all."""

    limit: Limit = 50
    kind: KindWord | None = None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """One incident in the list.

    `action` is the last cure that was tried, `result` what became of it, `detail` what proved that. `count`: how many
    identical ones it stands for, the last at `last_at`. `downtime_s`, `ended_at`: null while they are not known.
    """

    id: str
    at: str | None
    kind: str
    what: str
    evidence: str
    action: str
    result: str
    detail: str
    model: str | None
    downtime_s: float | None
    count: int
    last_at: str | None
    ended_at: str | None
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IncidentsView:
    """Incidents, newest first."""

    incidents: tuple[IncidentView, ...]
    count: int


@dataclass(frozen=True, slots=True)
class StepView:
    """One thing that was done."""

    at: str | None
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class IncidentDetailView(IncidentView):
    """One incident with all that is known of it; the witnesses are figures by name, null where one did not tell."""

    generation: int | None
    steps: tuple[StepView, ...]
    witnesses_before: Witnesses
    witnesses_after: Witnesses


class Incidents:
    """Shows the book of incidents."""

    def __init__(self, book: IncidentBook) -> None:
        self._book = book

    def routes(self) -> tuple[Route, ...]:
        """All, and one."""
        return (
            Route(
                "GET",
                "/api/incidents",
                self.all,
                "The incidents, newest first",
                {200: IncidentsView},
                bound_s=BOUND_S,
                query=IncidentQuery,
            ),
            Route(
                "GET",
                "/api/incidents/{id}",
                self.one,
                "One incident, with every step and the witnesses before and after",
                {200: IncidentDetailView},
                errors=(IncidentNotFound,),
            ),
        )

    async def all(self, call: Call) -> Reply:
        """The newest. With their lines they may be 4 MiB: written in a thread, they hold up no probe."""
        query = call.query_as(IncidentQuery)
        if query.kind is not None:
            _check_kind(query.kind)
        return Reply(await asyncio.to_thread(_page, self._book.newest_first(query.limit, kind=query.kind)))

    def one(self, call: Call) -> Reply:
        """One of them."""
        return Reply(_detail_view(self._book.get(call.path["id"])))


def _page(incidents: Sequence[Incident]) -> bytes:
    views = tuple(map(_view, incidents))
    return msgspec.json.encode(IncidentsView(views, len(views)))


def _check_kind(kind: str) -> None:
    """An empty page for a mistyped word would read like good news."""
    if kind in KINDS:
        return
    import difflib  # only here: the idle daemon does without

    nearest = difflib.get_close_matches(kind, KINDS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"it is one of {', '.join(KINDS)}."
    raise BadInput(f"'kind' in the query is not known: {hint}", fields={"field": "kind"})


def _view(incident: Incident) -> IncidentView:
    return IncidentView(**_listed(incident))


def _detail_view(incident: Incident) -> IncidentDetailView:
    return IncidentDetailView(
        **_listed(incident),
        generation=incident.generation,
        steps=tuple(StepView(rfc3339(step.at), step.action, step.detail) for step in incident.steps),
        witnesses_before=incident.witnesses_before,
        witnesses_after=incident.witnesses_after,
    )


def _listed(incident: Incident) -> dict[str, Any]:  # Any: the fields of an IncidentView
    """What both views tell: mostly the incident's own fields, of the same names."""
    return {
        **{field.name: getattr(incident, field.name) for field in fields(IncidentView)},
        "at": rfc3339(incident.at),
        "last_at": rfc3339(incident.last_at),
        "ended_at": rfc3339(incident.ended_at),
        "downtime_s": None if incident.downtime_s is None else round(incident.downtime_s, 3),
    }
