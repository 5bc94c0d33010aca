"""A book of incidents over a disk in memory: the ground of the tests of healing's hands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import IncidentStore, StoredIncidents
from tests.api.stubs import StubLog
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.healing.incidents.incident import Incident


class _Disk(IncidentStore):
    def __init__(self) -> None:
        super().__init__(Path("/state/incidents"))

    def read(self) -> StoredIncidents:
        return StoredIncidents((), ())

    def write(self, incident: Incident) -> None:
        """Keeps nothing."""


class Desk:
    """The book, with its clock and its log."""

    def __init__(self, *, max_incidents: int = 200) -> None:
        self.clock, self.log = HandClock(), StubLog()
        self.clock.now = 1000.0
        self.book = IncidentBook(_Disk(), clock=self.clock, log=self.log, max_incidents=max_incidents)

    @property
    def incidents(self) -> list[Incident]:
        """All of them, oldest first."""
        return list(reversed(self.book.newest_first(1000)))

    @property
    def only(self) -> Incident:
        """The one that there is."""
        (incident,) = self.incidents
        return incident

    def results(self) -> list[tuple[str, str]]:
        """Kind and result of each, oldest first."""
        return [(incident.kind, incident.result) for incident in self.incidents]

    def told(self, event: str) -> list[object]:
        """The fields of each such line of the daemon's log."""
        return [fields for name, fields in self.log.events if name == event]


class StubStore:
    """A store of models that says what the test gives it, or does not answer."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.n_asked = 0

    async def call(self, look: Callable[[Path], object], *, timeout_s: float) -> object:
        self.n_asked += 1
        if isinstance(self.answer, ArasulError):
            raise self.answer
        return self.answer
