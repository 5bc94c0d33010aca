"""Guards the incidents on disk: whole, ours alone, bounded, read by the next life, and no matter to a sick disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Incident, Result, Step
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import MAX_FILE_BYTES, IncidentStore
from tests.api.raw import eventually
from tests.api.stubs import StubLog
from tests.engine.log_ground import HandClock
from tests.engine.small_disks import small_disk_of

if TYPE_CHECKING:
    from pathlib import Path

WRITES_WITHOUT_END = """
import sys
from dataclasses import replace
from pathlib import Path
from arasul_supervisor.healing.incidents.incident import Incident
from arasul_supervisor.healing.incidents.incident_store import IncidentStore
store, number = IncidentStore(Path(sys.argv[1])), 0
one = Incident("", "runner_stuck", 1.0, "It stood.", "So it was.", "none", 1.0, log_tail=("x" * 1000,) * 20)
print("begun", flush=True)
while True:
    number += 1
    store.write(replace(one, id=f"20261129T081203Z-{number % 20 + 1}", count=number))
"""


def incident(number: int, *, line: str = "a line") -> Incident:
    return Incident(
        id=f"20261129T081203Z-{number}",
        kind="runner_stuck",
        at=1.7e9,
        what="The runner of tiny stands still.",
        evidence="No token for 12 s.",
        action="runner_killed",
        last_at=1.7e9,
        result="cured",
        model="tiny",
        downtime_s=1.5,
        steps=(Step(1.7e9, "runner_killed", "pid 7"),),
        log_tail=(line,),
        witnesses_before={"cpu_ticks": 7, "load": 0.5, "state": "T", "gpu": None},
    )


def size_of(one: Incident) -> int:
    return len(msgspec.json.encode(one))


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def book_at(folder: Path) -> tuple[IncidentBook, StubLog]:
    log, clock = StubLog(), HandClock()
    clock.now = 1795939923.0  # 2026-11-29T08:12:03Z
    return IncidentBook(IncidentStore(folder), clock=clock, log=log), log


def opened_in(book: IncidentBook) -> str:
    return book.open(Kind.RUNNER_STUCK, what="It stands.", evidence="No token.", action=Cure.END_RUNNER)


def test_an_incident_is_read_as_it_was_written(tmp_path: Path) -> None:
    IncidentStore(tmp_path / "incidents").write(incident(1))
    stored = IncidentStore(tmp_path / "incidents").read()

    assert (stored.incidents, stored.troubles) == ((incident(1),), ())


def test_only_we_may_read_the_folder_and_its_files(tmp_path: Path) -> None:
    IncidentStore(tmp_path / "incidents").write(incident(1))
    folder, file = tmp_path / "incidents", tmp_path / "incidents" / "20261129T081203Z-1.json"

    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert names_in(folder) == [file.name]


def test_no_folder_is_an_empty_one(tmp_path: Path) -> None:
    stored = IncidentStore(tmp_path / "incidents").read()

    assert (stored.incidents, stored.troubles) == ((), ())


def test_the_tenth_of_a_second_is_newer_than_its_ninth(tmp_path: Path) -> None:
    store = IncidentStore(tmp_path)
    for number in (10, 9):
        store.write(incident(number))

    assert [one.id[-2:] for one in IncidentStore(tmp_path).read().incidents] == ["-9", "10"]


def test_of_too_many_the_oldest_is_removed(tmp_path: Path) -> None:
    store = IncidentStore(tmp_path, max_incidents=2)
    for number in (1, 2, 3):
        store.write(incident(number))

    assert names_in(tmp_path) == ["20261129T081203Z-2.json", "20261129T081203Z-3.json"]


def test_the_files_of_an_earlier_life_count(tmp_path: Path) -> None:
    for number in (1, 2):
        IncidentStore(tmp_path).write(incident(number))
    IncidentStore(tmp_path, max_incidents=2).write(incident(3))

    assert names_in(tmp_path) == ["20261129T081203Z-2.json", "20261129T081203Z-3.json"]


def test_of_too_many_bytes_the_oldest_is_removed(tmp_path: Path) -> None:
    store = IncidentStore(tmp_path, max_bytes=25_000)
    for number in (1, 2, 3):
        store.write(incident(number, line="x" * 10_000))  # two of these and no third

    assert names_in(tmp_path) == ["20261129T081203Z-2.json", "20261129T081203Z-3.json"]


def test_what_is_written_now_stays_although_its_clock_is_far_behind(tmp_path: Path) -> None:
    IncidentStore(tmp_path).write(incident(1))
    of_1970 = Incident("19700101T000007Z-1", "runner_stuck", 7.0, "It stood.", "So it was.", "none", 7.0)
    IncidentStore(tmp_path, max_incidents=1).write(of_1970)

    assert names_in(tmp_path) == ["19700101T000007Z-1.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"id":7}', b"\xff\xfe", b"[" * 100_000, b"x" * (MAX_FILE_BYTES + 1)],
    ids=["empty", "cut", "a list", "another shape", "no text", "deep", "huge"],
)
def test_a_damaged_file_takes_no_other_along(tmp_path: Path, content: bytes) -> None:
    IncidentStore(tmp_path).write(incident(1))
    (tmp_path / "20261129T081203Z-2.json").write_bytes(content)
    stored = IncidentStore(tmp_path).read()

    assert stored.incidents == (incident(1),)
    assert [trouble.partition(":")[0] for trouble in stored.troubles] == ["20261129T081203Z-2.json"]


def test_a_file_that_tells_of_another_is_left_out(tmp_path: Path) -> None:
    IncidentStore(tmp_path).write(incident(1))
    (tmp_path / "20261129T081203Z-1.json").rename(tmp_path / "20261129T081203Z-2.json")

    assert IncidentStore(tmp_path).read().incidents == ()


def test_fields_of_a_newer_daemon_are_no_trouble(tmp_path: Path) -> None:
    IncidentStore(tmp_path).write(incident(1))
    file = tmp_path / "20261129T081203Z-1.json"
    file.write_bytes(file.read_bytes().replace(b'"kind":"runner_stuck"', b'"kind":"of_later","new":[1]'))
    (found,) = IncidentStore(tmp_path).read().incidents

    assert found.kind == "of_later"


def test_what_is_not_ours_is_told_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "20261129T081203Z-9.json").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "20261129T081203Z-8.json").symlink_to(tmp_path / "notes.txt")
    store = IncidentStore(tmp_path, max_incidents=1)
    troubles = store.read().troubles
    store.write(incident(1))
    store.write(incident(2))

    assert len(troubles) == 3
    assert names_in(tmp_path) == [
        "20261129T081203Z-2.json",
        "20261129T081203Z-8.json",
        "20261129T081203Z-9.json",
        "notes.txt",
    ]


def test_what_a_life_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("20261129T081203Z-1.json.new", "mine.new"):
        (tmp_path / name).write_text("half")
    IncidentStore(tmp_path).read()

    assert names_in(tmp_path) == ["mine.new"]


def test_a_kill_in_the_middle_of_a_write_leaves_only_whole_files(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES_WITHOUT_END, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.3)
        writer.kill()
    stored = IncidentStore(tmp_path).read()

    assert stored.incidents
    assert stored.troubles == ()


def test_what_was_changed_last_stays_although_it_began_first(tmp_path: Path) -> None:
    store = IncidentStore(tmp_path, max_bytes=25_000)
    for number, size in ((1, 1_000), (2, 10_000), (1, 20_000)):  # 1 and 2 are too many bytes now
        store.write(incident(number, line="x" * size))

    assert names_in(tmp_path) == ["20261129T081203Z-1.json"]


def test_no_more_are_read_than_are_kept(tmp_path: Path) -> None:
    store = IncidentStore(tmp_path)
    for number in (1, 2, 3):
        store.write(incident(number))

    assert IncidentStore(tmp_path, max_incidents=2).read().incidents == (incident(2), incident(3))


def test_a_file_too_large_for_an_incident_is_not_read(tmp_path: Path) -> None:
    IncidentStore(tmp_path).write(incident(1))
    with (tmp_path / "20261129T081203Z-1.json").open("ab") as file:
        file.write(b" " * MAX_FILE_BYTES)

    assert IncidentStore(tmp_path).read().troubles == (
        f"20261129T081203Z-1.json: {MAX_FILE_BYTES + size_of(incident(1))} bytes are too many for an incident",
    )


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk_of(tmp_path / "disk", mib=1) as disk:
        store = IncidentStore(disk.folder / "incidents")
        store.write(incident(1))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            store.write(incident(2))
        names = names_in(disk.folder / "incidents")

    assert names == ["20261129T081203Z-1.json"]


async def test_an_incident_outlives_the_daemon(tmp_path: Path) -> None:
    first, _ = book_at(tmp_path / "incidents")
    incident_id = opened_in(first)
    first.close(incident_id, result=Result.CURED, detail="It answers.", downtime_s=0.4)
    await first.settle()
    second, log = book_at(tmp_path / "incidents")
    await second.restore()
    await second.settle()

    assert second.get(incident_id) == first.get(incident_id)
    assert log.events == []


async def test_a_full_disk_loses_nothing_that_there_is_room_for_later(tmp_path: Path) -> None:
    with small_disk_of(tmp_path / "disk", mib=1) as disk:
        hog = await asyncio.to_thread(disk.fill)
        book, log = book_at(disk.folder / "incidents")
        first = opened_in(book)
        await eventually(lambda: "incidents_unwritten" in [event for event, _ in log.events])
        await asyncio.to_thread(hog.unlink)
        second = opened_in(book)
        await book.settle()
        names = await asyncio.to_thread(names_in, disk.folder / "incidents")

    assert names == [f"{first}.json", f"{second}.json"]


async def test_incidents_on_a_read_only_disk_are_read_and_told(tmp_path: Path) -> None:
    with small_disk_of(tmp_path / "disk", mib=1) as disk:
        folder = disk.folder / "incidents"
        await asyncio.to_thread(IncidentStore(folder).write, incident(1))
        await asyncio.to_thread((folder / "20261129T081203Z-1.json.new").touch)
        await asyncio.to_thread(disk.make_read_only)
        book, log = book_at(folder)
        await book.restore()
        fresh = opened_in(book)
        await book.settle()

    assert [one.id for one in book.newest_first(9)] == [fresh, "20261129T081203Z-1"]
    assert [event for event, _ in log.events] == [
        "incidents_unread",
        "incident_opened",
        "incidents_unwritten",
    ]


async def test_a_file_in_the_place_of_the_folder_is_told_and_left(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "incidents").write_text, "mine")
    book, log = book_at(tmp_path / "incidents")
    await book.restore()
    opened_in(book)
    await book.settle()

    assert [event for event, _ in log.events] == [
        "incidents_unread",
        "incident_opened",
        "incidents_unwritten",
    ]
    assert await asyncio.to_thread((tmp_path / "incidents").read_text) == "mine"
