"""Guards the quarantine: who is in it and why, under which names, and that it outlives the daemon until lifted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.aftermath.quarantine import Quarantine, QuarantinedModel
from tests.api.stubs import StubLog

if TYPE_CHECKING:
    from pathlib import Path

REASON = "The engine died 3 times within 5 min while it loaded tiny."


async def quarantine_at(path: Path, log: StubLog | None = None) -> Quarantine:
    quarantine = Quarantine(path, log or StubLog())
    await quarantine.restore()
    return quarantine


async def test_a_model_is_quarantined_under_each_of_its_names(tmp_path: Path) -> None:
    quarantine = await quarantine_at(tmp_path / "quarantine.json")
    quarantine.add("tiny", REASON, crashes=3, at=1.7e9)
    await quarantine.close()
    others = ("TINY:latest", "library/tiny", "https://registry.ollama.ai/library/tiny:latest")

    assert [quarantine.reason_for(name) for name in ("tiny", *others)] == [REASON] * 4
    assert quarantine.reason_for("tiny:q8") is None


async def test_what_is_quarantined_outlives_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    first = await quarantine_at(path)
    first.add("hf.co/a/b:q4", REASON, crashes=3, at=1.7e9)
    await first.close()
    second = await quarantine_at(path)
    await second.close()

    assert second.entries() == (QuarantinedModel("hf.co/a/b:q4", REASON, 3, 1.7e9),)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_is_lifted_stays_lifted(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    first = await quarantine_at(path)
    first.add("tiny", REASON, crashes=3, at=1.7e9)
    is_lifted = first.lift("library/tiny:latest")
    await first.close()
    second = await quarantine_at(path)
    await second.close()

    assert (is_lifted, first.reason_for("tiny"), second.entries()) == (True, None, ())


async def test_what_is_not_there_cannot_be_lifted(tmp_path: Path) -> None:
    log = StubLog()
    quarantine = await quarantine_at(tmp_path / "quarantine.json", log)

    assert (quarantine.lift("tiny"), log.events) == (False, [])
    await quarantine.close()


async def test_a_reason_given_anew_keeps_the_day_of_the_first(tmp_path: Path) -> None:
    quarantine = await quarantine_at(tmp_path / "quarantine.json")
    quarantine.add("tiny", REASON, crashes=3, at=1.7e9)
    quarantine.add("tiny:latest", "It died again.", crashes=4, at=1.8e9)
    await quarantine.close()

    assert quarantine.entries() == (QuarantinedModel("tiny:latest", "It died again.", 4, 1.7e9),)


async def test_both_ways_are_logged(tmp_path: Path) -> None:
    log = StubLog()
    quarantine = await quarantine_at(tmp_path / "quarantine.json", log)
    quarantine.add("tiny", REASON, crashes=3, at=1.7e9)
    quarantine.lift("tiny")
    await quarantine.close()

    assert log.events == [
        ("model_quarantined", {"model": "tiny", "reason": REASON, "crashes": 3}),
        ("quarantine_lifted", {"model": "tiny", "reason": REASON}),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version":1,"quarantined":[{"name":7}]}']
)
async def test_a_damaged_file_is_told_and_replaced(tmp_path: Path, content: bytes) -> None:
    path, log = tmp_path / "quarantine.json", StubLog()
    await asyncio.to_thread(path.write_bytes, content)
    damaged = await quarantine_at(path, log)
    damaged.add("tiny", REASON, crashes=3, at=1.7e9)
    await damaged.close()
    again = await quarantine_at(path)
    await again.close()

    assert [event for event, _ in log.events] == ["quarantine_unread", "model_quarantined"]
    assert [model.name for model in again.entries()] == ["tiny"]


async def test_what_is_added_before_the_file_is_read_replaces_nothing_in_it(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    first = await quarantine_at(path)
    first.add("tiny", REASON, crashes=3, at=1.7e9)
    await first.close()
    second = Quarantine(path, StubLog())
    second.add("other", REASON, crashes=2, at=1.8e9)
    await second.restore()
    await second.close()
    third = await quarantine_at(path)
    await third.close()

    assert [model.name for model in third.entries()] == ["tiny", "other"]


async def test_a_folder_that_cannot_be_written_stops_no_quarantine(tmp_path: Path) -> None:
    log = StubLog()
    quarantine = await quarantine_at(tmp_path / "gone" / "quarantine.json", log)
    quarantine.add("tiny", REASON, crashes=3, at=1.7e9)
    await quarantine.close()

    assert quarantine.reason_for("tiny") == REASON
    assert [event for event, _ in log.events] == ["model_quarantined", "quarantine_unwritten"]
