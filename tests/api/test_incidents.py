"""CONTRACT §4: `/api/incidents` and `/api/models/quarantine`, over a real port with a book that the test fills."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.api.dispatch import Dispatch
from arasul_supervisor.api.guards import Guard
from arasul_supervisor.api.incidents import Incidents
from arasul_supervisor.api.openapi import OpenApi
from arasul_supervisor.api.quarantine import QuarantinedModels
from arasul_supervisor.api.routes import RouteTable
from arasul_supervisor.api.server import ManagementApi, open_port
from arasul_supervisor.healing.aftermath.quarantine import Quarantine
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import IncidentStore
from arasul_supervisor.settings import load_settings
from tests.api.raw import ask
from tests.api.stubs import StubLog
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AT = 1795939923.25  # 2026-11-29T08:12:03.25Z


@dataclass(frozen=True, slots=True)
class Port:
    """The two families of endpoints alone, and what they show."""

    number: int
    book: IncidentBook
    quarantine: Quarantine
    clock: HandClock

    async def get(self, path: str) -> Any:  # Any: tests look into it freely
        """The body of a 200."""
        answer = await ask(self.number, "GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def open(self, kind: Kind = Kind.RUNNER_STUCK) -> str:
        return self.book.open(
            kind,
            what="The runner of tiny stands still.",
            evidence="No token for 12 s.",
            action=Cure.CONTINUE,
            model="tiny",
            generation=3,
            log_tail=("a line",),
            before={"cpu_ticks": 7, "gpu_load_percent": None},
        )


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with _port(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def _port(state: Path) -> AsyncIterator[Port]:
    settings = await asyncio.to_thread(load_settings, {"HOME": "/nonexistent"})  # it looks at files
    log, clock = StubLog(), HandClock()
    clock.now = AT
    book = IncidentBook(IncidentStore(state / "incidents"), clock=clock, log=log)
    quarantine = Quarantine(state / "quarantine.json", log)
    await quarantine.restore()
    routes = (*Incidents(book).routes(), *QuarantinedModels(quarantine).routes())
    passthrough: Any = None  # Any: none of these paths is the engine's
    table = RouteTable((*routes, *OpenApi(routes).routes()))
    dispatch = Dispatch(table, Guard(settings), passthrough=passthrough, daemon_log=log)

    async def at_end() -> None:
        await book.settle()
        await quarantine.close()

    sock = socket.create_server(("127.0.0.1", 0))
    runner = await open_port(sock, dispatch)
    runner.hand_over(ManagementApi(dispatch, at_end))
    try:
        yield Port(sock.getsockname()[1], book, quarantine, clock)
    finally:
        await runner.cleanup()


async def test_the_list_tells_each_incident_with_its_last_lines(port: Port) -> None:
    incident_id = port.open()
    port.clock.now += 2
    port.book.close(incident_id, result=Result.CURED, detail="It answers.", downtime_s=1.23456)

    assert await port.get("/api/incidents") == {
        "incidents": [
            {
                "id": "20261129T081203Z-1",
                "at": "2026-11-29T08:12:03.250Z",
                "kind": "runner_stuck",
                "what": "The runner of tiny stands still.",
                "evidence": "No token for 12 s.",
                "action": "continued",
                "result": "cured",
                "detail": "It answers.",
                "model": "tiny",
                "downtime_s": 1.235,
                "count": 1,
                "last_at": "2026-11-29T08:12:03.250Z",
                "ended_at": "2026-11-29T08:12:05.250Z",
                "log_tail": ["a line"],
            }
        ],
        "count": 1,
    }


async def test_one_incident_tells_its_steps_and_witnesses_too(port: Port) -> None:
    incident_id = port.open()
    port.book.add_step(incident_id, Cure.END_RUNNER, "SIGKILL to pid 7.")
    port.book.close(incident_id, result=Result.CURED, detail="It answers.", after={"cpu_ticks": 9})
    shown = await port.get(f"/api/incidents/{incident_id}")

    assert shown["generation"] == 3
    assert shown["steps"] == [
        {"at": "2026-11-29T08:12:03.250Z", "action": "runner_killed", "detail": "SIGKILL to pid 7."}
    ]
    assert shown["witnesses_before"] == {"cpu_ticks": 7, "gpu_load_percent": None}
    assert shown["witnesses_after"] == {"cpu_ticks": 9}


async def test_the_newest_come_first_and_no_more_than_asked_for(port: Port) -> None:
    ids = [port.open() for _ in range(3)]
    shown = await port.get("/api/incidents?limit=2")

    assert ([one["id"] for one in shown["incidents"]], shown["count"]) == ([ids[2], ids[1]], 2)


async def test_without_a_limit_there_are_fifty(port: Port) -> None:
    for _ in range(60):
        port.open()

    assert (await port.get("/api/incidents"))["count"] == 50


async def test_a_kind_picks_its_own(port: Port) -> None:
    port.open(Kind.MEMORY_LOW)
    stuck = port.open()

    assert [one["id"] for one in (await port.get("/api/incidents?kind=runner_stuck"))["incidents"]] == [stuck]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "kind=runner_stck", "kind=x"])
async def test_a_query_that_makes_no_sense_is_refused(port: Port, query: str) -> None:
    answer = await ask(port.number, "GET", f"/api/incidents?{query}")

    assert (answer.status, answer.json()["code"]) == (400, "bad_input")
    assert answer.json()["field"] == query.partition("=")[0]


async def test_a_mistyped_kind_is_told_the_nearest(port: Port) -> None:
    answer = await ask(port.number, "GET", "/api/incidents?kind=runner_stck")

    assert answer.json()["error"] == "'kind' in the query is not known: did you mean runner_stuck?"


async def test_an_unknown_incident_is_not_found(port: Port) -> None:
    answer = await ask(port.number, "GET", "/api/incidents/20261129T081203Z-1")

    assert (answer.status, answer.json()["code"]) == (404, "incident_not_found")


async def test_the_quarantine_tells_who_why_and_since_when(port: Port) -> None:
    port.quarantine.add("tiny", "It killed the engine.", crashes=3, at=AT)

    assert await port.get("/api/models/quarantine") == {
        "quarantined": [
            {
                "name": "tiny",
                "reason": "It killed the engine.",
                "crashes": 3,
                "since_at": "2026-11-29T08:12:03.250Z",
            }
        ],
        "count": 1,
    }


async def test_a_quarantine_is_lifted_by_a_name_with_slashes(port: Port) -> None:
    port.quarantine.add("hf.co/a/b:q4", "It killed the engine.", crashes=3, at=AT)
    answer = await ask(port.number, "DELETE", "/api/models/quarantine/hf.co%2Fa%2Fb%3Aq4")

    assert (answer.status, answer.json()) == (
        200,
        {"message": "hf.co/a/b:q4 may be used again.", "status": "success"},
    )
    assert port.quarantine.entries() == ()


async def test_a_model_that_is_not_quarantined_is_not_found_there(port: Port) -> None:
    answer = await ask(port.number, "DELETE", "/api/models/quarantine/tiny")

    assert (answer.status, answer.json()["code"]) == (404, "not_quarantined")
    assert answer.json()["error"].startswith("tiny is not quarantined.")


async def test_the_document_shows_the_kinds_and_the_shape_of_the_witnesses(port: Port) -> None:
    document = await port.get("/openapi.json")
    (kind,) = (
        one for one in document["paths"]["/api/incidents"]["get"]["parameters"] if one["name"] == "kind"
    )
    detail = document["components"]["schemas"]["IncidentDetailView"]["properties"]

    assert kind["schema"]["enum"] == [one.value for one in Kind]
    assert "null" in json.dumps(detail["witnesses_before"]["additionalProperties"])
