"""Guards CONTRACT §4, incidents: what the book tells from memory, what it keeps, and what it logs."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.errors import IncidentNotFound
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Incident, Result, order_of
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import IncidentStore, StoredIncidents, surplus
from tests.api.raw import eventually
from tests.api.stubs import StubLog
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

AT = 1795939923.0  # 2026-11-29T08:12:03Z
BLOCKED_S = 10.0


class MemoryStore(IncidentStore):
    """A disk that holds, refuses or hangs as the test says, and notes what is written."""

    def __init__(self, *earlier: Incident, troubles: tuple[str, ...] = ()) -> None:
        super().__init__(Path("/state/incidents"))
        self.stored = StoredIncidents(earlier, troubles)
        self.written: list[Incident] = []
        self.refusal: OSError | None = None
        self.n_refusals = sys.maxsize
        self.n_tried = 0
        self.unblocked = threading.Event()
        self.unblocked.set()

    def read(self) -> StoredIncidents:
        if self.refusal:
            raise self.refusal
        return self.stored

    def write(self, incident: Incident) -> None:
        self.n_tried += 1
        self.unblocked.wait(BLOCKED_S)
        if self.refusal and self.n_refusals:
            self.n_refusals -= 1
            raise self.refusal
        self.written.append(incident)


class Desk:
    """A book with all that it stands on."""

    def __init__(self, store: MemoryStore, *, max_incidents: int = 200) -> None:
        self.store, self.clock, self.log = store, HandClock(), StubLog()
        self.clock.now = AT
        self.book = IncidentBook(store, clock=self.clock, log=self.log, max_incidents=max_incidents)

    def open(self, kind: Kind = Kind.RUNNER_STUCK, model: str | None = "tiny") -> str:
        return self.book.open(
            kind,
            what="The runner of tiny stands still.",
            evidence="No token for 12 s, and no CPU tick.",
            action=Cure.END_RUNNER,
            model=model,
            generation=3,
            log_tail=("a line",),
            before={"cpu_ticks": 7, "gpu_load_percent": None},
        )

    async def fails_once(self, incident_id: str) -> None:
        """The disk refuses a change, and takes the next."""
        n_told = self.events().count("incidents_unwritten")
        self.store.refusal = OSError(28, "No space left on device")
        self.book.repeat(incident_id, AT)
        await eventually(lambda: self.events().count("incidents_unwritten") > n_told)
        self.store.refusal = None
        self.book.repeat(incident_id, AT)
        await eventually(lambda: self.store.written[-1:] == [self.book.get(incident_id)])

    def events(self) -> list[str]:
        return [event for event, _ in self.log.events]

    def fields(self, event: str) -> Mapping[str, object]:
        return next(fields for name, fields in self.log.events if name == event)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """A book over a disk that takes everything."""
    opened = Desk(MemoryStore())
    yield opened
    opened.store.unblocked.set()
    await opened.book.settle()


def earlier(number: int, **changes: object) -> Incident:
    return Incident(
        **{  # type: ignore[arg-type]  # fields by name
            "id": f"20261129T081203Z-{number}",
            "kind": "runner_stuck",
            "at": AT,
            "what": "It stood still.",
            "evidence": "No token for 12 s.",
            "action": "runner_killed",
            "last_at": AT,
            **changes,
        }
    )


async def test_an_incident_is_told_at_once_with_all_that_was_given(desk: Desk) -> None:
    incident = desk.book.get(desk.open())

    assert incident == Incident(
        id="20261129T081203Z-1",
        kind="runner_stuck",
        at=AT,
        what="The runner of tiny stands still.",
        evidence="No token for 12 s, and no CPU tick.",
        action="runner_killed",
        last_at=AT,
        model="tiny",
        generation=3,
        log_tail=("a line",),
        witnesses_before={"cpu_ticks": 7, "gpu_load_percent": None},
    )


async def test_incidents_of_one_second_have_ids_of_their_own(desk: Desk) -> None:
    ids = [desk.open() for _ in range(11)]
    desk.clock.now += 1
    ids.append(desk.open())

    assert ids[-2:] == ["20261129T081203Z-11", "20261129T081204Z-1"]
    assert sorted(ids, key=order_of) == ids


async def test_an_id_of_an_earlier_life_is_not_given_again() -> None:
    desk = Desk(MemoryStore(earlier(1, result="cured")))
    await desk.book.restore()
    fresh = desk.open()
    await desk.book.settle()

    assert fresh == "20261129T081203Z-2"


async def test_an_id_that_left_the_book_is_not_given_again() -> None:
    desk = Desk(MemoryStore(), max_incidents=1)
    ids = {desk.open() for _ in range(3)}
    await desk.book.settle()

    assert len(ids) == 3


async def test_the_last_step_is_the_action_of_its_incident(desk: Desk) -> None:
    incident_id = desk.open()
    desk.clock.now += 5
    desk.book.add_step(incident_id, Cure.RESTART_ENGINE, "The runner did not end.")
    incident = desk.book.get(incident_id)

    assert incident.action == "engine_restarting"
    assert [(step.at, step.detail) for step in incident.steps] == [(AT + 5, "The runner did not end.")]


async def test_a_step_in_which_nothing_was_done_leaves_the_action(desk: Desk) -> None:
    incident_id = desk.open()
    desk.book.add_step(incident_id, Cure.NONE, "tiny was loaded again.")
    incident = desk.book.get(incident_id)

    assert (incident.action, incident.steps[0].action) == ("runner_killed", "none")


async def test_of_steps_without_end_the_newest_are_kept(desk: Desk) -> None:
    incident_id = desk.open()
    for number in range(60):
        desk.book.add_step(incident_id, Cure.UNLOAD, str(number))

    assert [step.detail for step in desk.book.get(incident_id).steps] == [str(n) for n in range(10, 60)]


async def test_a_closed_incident_says_what_proved_it(desk: Desk) -> None:
    incident_id = desk.open()
    desk.clock.now += 2
    desk.book.close(
        incident_id, result=Result.CURED, detail="It answers.", downtime_s=1.5, after={"cpu_ticks": 9}
    )
    incident = desk.book.get(incident_id)

    assert (incident.result, incident.detail, incident.downtime_s) == ("cured", "It answers.", 1.5)
    assert (incident.ended_at, incident.is_open) == (AT + 2, False)
    assert incident.witnesses_after == {"cpu_ticks": 9}


async def test_identical_ones_are_folded_into_one(desk: Desk) -> None:
    incident_id = desk.open()
    desk.book.repeat(incident_id, AT + 30)
    incident = desk.book.get(incident_id)

    assert (incident.count, incident.at, incident.last_at) == (2, AT, AT + 30)


async def test_the_last_lines_of_the_engine_are_kept_and_cut(desk: Desk) -> None:
    incident_id = desk.open()
    desk.book.set_log_tail(incident_id, ["x" * 64 * 1024, *map(str, range(19))])
    full = desk.book.get(incident_id).log_tail
    desk.book.set_log_tail(incident_id, [str(n) for n in range(50)])

    assert (full[0], len(full)) == ("x" * 1000 + " [cut]", 20)
    assert desk.book.get(incident_id).log_tail == tuple(str(n) for n in range(30, 50))


async def test_the_newest_of_a_kind_about_a_model_is_found(desk: Desk) -> None:
    desk.open(model="tiny")
    second = desk.open(model="tiny")
    desk.open(model="other")
    found = desk.book.latest(Kind.RUNNER_STUCK, "tiny")

    assert found is not None
    assert found.id == second
    assert desk.book.latest(Kind.RUNNER_STUCK, None) is None


async def test_the_list_is_newest_first_and_of_one_kind_where_asked(desk: Desk) -> None:
    ids = [desk.open(kind) for kind in (Kind.MEMORY_LOW, Kind.RUNNER_STUCK, Kind.MEMORY_LOW)]

    assert [one.id for one in desk.book.newest_first(2)] == [ids[2], ids[1]]
    assert [one.id for one in desk.book.newest_first(1, kind="memory_low")] == [ids[2]]
    assert [one.id for one in desk.book.newest_first(9, kind="memory_low")] == [ids[2], ids[0]]


async def test_what_is_not_in_the_book_is_not_found(desk: Desk) -> None:
    with pytest.raises(IncidentNotFound, match="No incident 'x' is known"):
        desk.book.get("x")


async def test_of_too_many_the_oldest_that_ended_goes_first() -> None:
    desk = Desk(MemoryStore(), max_incidents=2)
    still_open, ended = desk.open(), desk.open()
    desk.book.close(ended, result=Result.NOTED, detail="Nothing was to be done.")
    newest = desk.open()
    await desk.book.settle()

    assert [one.id for one in desk.book.newest_first(9)] == [newest, still_open]


async def test_where_all_are_open_the_oldest_goes() -> None:
    desk = Desk(MemoryStore(), max_incidents=2)
    ids = [desk.open() for _ in range(3)]
    await desk.book.settle()

    assert [one.id for one in desk.book.newest_first(9)] == [ids[2], ids[1]]


async def test_what_was_open_when_the_daemon_ended_is_of_unknown_outcome() -> None:
    desk = Desk(MemoryStore(earlier(1), earlier(2, result="cured", ended_at=AT)))
    await desk.book.restore()
    await desk.book.settle()
    unknown, cured = desk.book.get("20261129T081203Z-1"), desk.book.get("20261129T081203Z-2")

    assert (unknown.result, unknown.ended_at) == ("unknown", None)
    assert unknown.detail == "The daemon ended before it was known what became of this."
    assert cured.result == "cured"
    assert desk.store.written == [unknown]


async def test_what_was_opened_before_the_disk_was_read_stays_the_newest() -> None:
    desk = Desk(MemoryStore(earlier(7, result="cured")))
    fresh = desk.open()
    await desk.book.restore()
    await desk.book.settle()

    assert [one.id for one in desk.book.newest_first(9)] == [fresh, "20261129T081203Z-7"]
    assert desk.book.get(fresh).is_open


async def test_each_change_is_one_event_without_the_lines_of_the_engine(desk: Desk) -> None:
    incident_id = desk.open()
    desk.book.add_step(incident_id, Cure.UNLOAD, "It was asked to.")
    desk.book.repeat(incident_id, AT)
    desk.book.set_log_tail(incident_id, ("secret",))
    desk.book.close(incident_id, result=Result.CURED, detail="It answers.", downtime_s=1.5)

    assert desk.events() == ["incident_opened", "incident_step", "incident_closed"]
    assert desk.fields("incident_closed") == {
        "id": incident_id,
        "kind": "runner_stuck",
        "what": "The runner of tiny stands still.",
        "evidence": "No token for 12 s, and no CPU tick.",
        "action": "unloaded",
        "result": "cured",
        "model": "tiny",
        "detail": "It answers.",
        "downtime_s": 1.5,
    }


async def test_a_storm_of_changes_of_one_incident_writes_its_last_state(desk: Desk) -> None:
    desk.store.unblocked.clear()
    incident_id = desk.open()
    for number in range(100):
        desk.book.repeat(incident_id, AT + number)
    desk.store.unblocked.set()
    await eventually(lambda: desk.store.written[-1:] == [desk.book.get(incident_id)])

    assert len(desk.store.written) <= 2  # the one that was under way, and the last


async def test_a_full_disk_is_told_once_and_tried_again_at_the_next_change(desk: Desk) -> None:
    desk.store.refusal = OSError(28, "No space left on device")
    first = desk.open()
    await eventually(lambda: "incidents_unwritten" in desk.events())
    second = desk.open()
    await eventually(lambda: desk.store.n_tried == 2)
    desk.store.refusal = None
    desk.book.repeat(second, AT)
    await eventually(lambda: len(desk.store.written) >= 2)

    assert {one.id for one in desk.store.written} == {first, second}
    assert desk.events().count("incidents_unwritten") == 1
    assert desk.fields("incidents_unwritten")["sentence"] == (
        "/state/incidents cannot be written: No space left on device; incidents are told from memory, and lost with"
        " the daemon."
    )


async def test_what_comes_while_a_write_fails_is_written_at_once(desk: Desk) -> None:
    desk.store.refusal, desk.store.n_refusals = OSError(28, "No space left on device"), 1
    desk.store.unblocked.clear()
    first = desk.open()
    await eventually(lambda: desk.store.n_tried == 1)
    second = desk.open()
    desk.store.unblocked.set()
    await eventually(lambda: len(desk.store.written) == 2)

    assert [one.id for one in desk.store.written] == [first, second]


async def test_a_disk_that_fails_again_later_is_told_again(desk: Desk) -> None:
    incident_id = desk.open()
    await desk.fails_once(incident_id)
    await desk.fails_once(incident_id)

    assert desk.events().count("incidents_unwritten") == 2


async def test_what_waits_for_a_disk_that_hangs_is_bounded() -> None:
    desk = Desk(MemoryStore(), max_incidents=3)
    desk.store.unblocked.clear()
    desk.open()
    await eventually(lambda: not desk.book._writer._waiting)  # the write that hangs
    newest = [desk.open() for _ in range(10)][-3:]
    waiting = list(desk.book._writer._waiting)
    desk.store.unblocked.set()
    await desk.book.settle()

    assert waiting == newest


async def test_the_end_waits_for_a_disk_that_hangs_half_a_second(desk: Desk) -> None:
    desk.store.unblocked.clear()
    desk.open()
    begun = time.monotonic()
    await desk.book.settle()

    assert 0.4 <= time.monotonic() - begun <= 2.0
    assert desk.events() == ["incident_opened", "incidents_unwritten"]


async def test_a_folder_that_cannot_be_read_is_told_and_the_book_works_on(desk: Desk) -> None:
    desk.store.refusal = OSError(5, "Input/output error")
    await desk.book.restore()
    desk.store.refusal = None
    desk.open()

    assert desk.events() == ["incidents_unread", "incident_opened"]


async def test_files_that_are_left_out_are_told_once() -> None:
    desk = Desk(MemoryStore(troubles=("a.txt: no incident", "b.json: is empty")))
    await desk.book.restore()
    await desk.book.settle()

    assert desk.fields("incidents_unread")["sentence"] == (
        "2 files in /state/incidents are left out, among them a.txt: no incident; incidents are told without these."
    )


@pytest.mark.parametrize(
    ("max_files", "max_bytes", "gone"),
    [(3, 60, ()), (2, 60, ("a",)), (9, 59, ("a",)), (9, 45, ("a", "b")), (0, 0, ("a", "b"))],
)
def test_the_oldest_files_make_room(max_files: int, max_bytes: int, gone: tuple[str, ...]) -> None:
    sizes = {"a": 10, "b": 20, "c": 30}  # 60 bytes; 50 without a, 30 without b

    assert surplus(sizes, max_files=max_files, max_bytes=max_bytes) == gone
