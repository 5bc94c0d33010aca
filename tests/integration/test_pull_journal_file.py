"""Guards CONTRACT §4: what is kept of the pulls on disk is whole, is read again, and its loss stops no pull."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown, ModelNotFound
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.pulls.job import PullJob
from arasul_supervisor.ollama.pulls.journal import PullJournal, PullRecord
from arasul_supervisor.ollama.pulls.order import PullOrder
from arasul_supervisor.ollama.pulls.records import job_of, record_of
from tests.api.stubs import StubLog

if TYPE_CHECKING:
    from pathlib import Path

RECORD = PullRecord("0123456789ab", "tiny:q8", "tiny:q8_0", True, "running", 1.7e9, attempts=2)
CLOCK = SystemClock()


def job(*, is_kept: bool = True) -> PullJob:
    pull = PullJob(PullOrder("ab", "tiny:q8", "tiny:q8_0", is_insecure=True, created_at=1.7e9), CLOCK)
    pull.is_kept = is_kept
    return pull


async def journal_at(path: Path, log: StubLog) -> PullJournal:
    journal = PullJournal(path, log)
    await journal.read()
    return journal


async def test_what_was_noted_is_read_by_the_next_life(tmp_path: Path) -> None:
    path, log = tmp_path / "pulls.json", StubLog()
    first = await journal_at(path, log)
    first.note([RECORD])
    await first.noted()
    second = PullJournal(path, log)
    found = await second.read()
    await first.close()
    await second.close()

    assert found == (RECORD,)
    assert (path.stat().st_mode & 0o777, log.events) == (0o600, [])


async def test_what_was_never_read_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pulls.json"
    first = await journal_at(path, StubLog())
    first.note([RECORD])
    await first.close()
    hasty = PullJournal(path, StubLog())
    hasty.note([])
    await hasty.close()
    again = PullJournal(path, StubLog())

    assert await again.read() == (RECORD,)
    await again.close()


async def test_news_that_come_while_a_write_fails_are_written_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    journal = await journal_at(folder / "pulls.json", StubLog())
    journal.note([])
    await asyncio.sleep(0)  # the failing write is under way
    await asyncio.to_thread(folder.mkdir)
    journal.note([RECORD])
    await journal.noted()
    is_kept = journal.is_kept
    await journal.close()

    assert is_kept


async def test_only_the_newest_of_many_states_is_written(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "pulls.json", StubLog())
    for n in range(100):
        journal.note([RECORD] * n)
    await journal.close()
    again = PullJournal(tmp_path / "pulls.json", StubLog())

    assert len(await again.read()) == 99
    await again.close()


async def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    log = StubLog()
    journal = PullJournal(tmp_path / "pulls.json", log)

    assert (await journal.read(), log.events) == ((), [])
    await journal.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
async def test_a_journal_that_is_none_is_told_and_set_aside(tmp_path: Path, content: bytes) -> None:
    path, log = tmp_path / "pulls.json", StubLog()
    await asyncio.to_thread(path.write_bytes, content)
    journal = PullJournal(path, log)
    found = await journal.read()
    await journal.close()

    assert found == ()
    assert [event for event, _ in log.events] == ["pull_journal_unread"]
    assert await asyncio.to_thread((tmp_path / "pulls.json.unread").read_bytes) == content


async def test_a_pull_that_cannot_be_read_takes_no_other_along(tmp_path: Path) -> None:
    path, log = tmp_path / "pulls.json", StubLog()
    first = await journal_at(path, log)
    first.note([RECORD])
    await first.close()
    damaged = (await asyncio.to_thread(path.read_bytes)).replace(b'"pulls":[', b'"pulls":[{"id":7},')
    await asyncio.to_thread(path.write_bytes, damaged)
    journal = PullJournal(path, log)
    found = await journal.read()
    await journal.close()

    assert found == (RECORD,)
    assert [event for event, _ in log.events] == ["pull_journal_unread"]


async def test_a_folder_that_cannot_be_written_is_told_once_and_tried_again(tmp_path: Path) -> None:
    folder, log = tmp_path / "later", StubLog()
    journal = await journal_at(folder / "pulls.json", log)
    for _ in range(3):
        journal.note([RECORD])
        await journal.noted()
    was_kept, told = journal.is_kept, [event for event, _ in log.events]
    folder.mkdir()
    journal.note([RECORD])
    await journal.noted()
    await journal.close()

    assert (was_kept, journal.is_kept) == (False, True)
    assert told == ["pull_journal_trouble"]
    assert (folder / "pulls.json").exists()


async def test_fields_of_a_newer_daemon_are_no_trouble(tmp_path: Path) -> None:
    known = '"id":"a","model":"m","real":"m","insecure":false,"created_at":1.0'
    text = f'{{"version":9,"pulls":[{{{known},"state":"x","new":1}}]}}'
    await asyncio.to_thread((tmp_path / "pulls.json").write_text, text)
    journal = PullJournal(tmp_path / "pulls.json", StubLog())
    (found,) = await journal.read()
    await journal.close()

    assert job_of(found, CLOCK).state is JobState.QUEUED


async def test_a_pull_under_way_is_queued_in_the_next_life_with_what_it_has_been_through() -> None:
    pull = job()
    pull.begin_attempt()
    pull.real_was_there = False
    pull.suspend(EngineDown())

    again = job_of(record_of(pull), CLOCK)

    assert (again.state, again.attempts, again.real_was_there) == (JobState.QUEUED, 1, False)
    assert again.order == pull.order
    assert again.view().started_at == pull.view().started_at


async def test_a_model_that_was_seen_is_done_in_the_next_life_before_anybody_was_told() -> None:
    pull = job()
    pull.begin_attempt()
    pull.is_there = True

    again = job_of(record_of(pull), CLOCK).view()

    assert (again.state, again.error) == (JobState.DONE, None)
    assert again.finished_at is not None


async def test_a_pull_that_failed_is_remembered_with_its_reason() -> None:
    pull = job()
    pull.begin_attempt()
    pull.fail(ModelNotFound("The registry has no model 'tiny:q8'."))

    again = job_of(record_of(pull), CLOCK).view()

    assert (again.state, again.error) == (JobState.FAILED, "The registry has no model 'tiny:q8'.")
    assert again.finished_at == pull.view().finished_at


async def test_a_pull_that_was_only_for_its_client_does_not_outlive_the_daemon() -> None:
    pull = job(is_kept=False)
    pull.begin_attempt()

    again = job_of(record_of(pull), CLOCK)

    assert again.state is JobState.CANCELLED
