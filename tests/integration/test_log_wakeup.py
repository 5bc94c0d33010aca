"""Guards that the raw log is followed by inotify alone while it works, and all the same where it does not."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs import wakeup
from arasul_supervisor.logs.spool import SpoolReader
from arasul_supervisor.logs.wakeup import open_inotify
from tests.engine.log_ground import LogGround, append

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

IN_MOVE_SELF = 0x800
NO_WATCH_LEFT = -1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[SpoolReader]:
    """Grows by one whenever the size of a spool is looked at."""
    looks: list[SpoolReader] = []
    really: Callable[[SpoolReader], int] = SpoolReader.size_bytes

    def count(reader: SpoolReader) -> int:
        looks.append(reader)
        return really(reader)

    monkeypatch.setattr(SpoolReader, "size_bytes", count)
    return looks


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[tuple[LogGround, Path]]:
    """A log whose first line has been read, with its spool."""
    ground = LogGround(folder)
    spool = ground.begin(1, written=b"before\n")
    async with ground.running():
        await ground.until_text("before")
        yield ground, spool


async def test_until_inotify_has_told_of_it_an_idle_engine_is_looked_at_once_a_second(
    tmp_path: Path, looks: list[SpoolReader]
) -> None:
    ground = LogGround(tmp_path)
    ground.begin(1, written=b"here\n")
    async with ground.running():
        await ground.until_text("here")
        await asyncio.sleep(1.2)  # until the reading of that line is over, its flush and its look included
        looks.clear()
        await asyncio.sleep(4.0)
        n_looks = len(looks)
    assert 3 <= n_looks <= 5


async def test_an_idle_engine_of_which_inotify_has_told_is_hardly_looked_at(
    tmp_path: Path, looks: list[SpoolReader]
) -> None:
    async with followed(tmp_path) as (ground, spool):
        append(spool, b"here\n")
        await ground.until_text("here")
        await asyncio.sleep(1.2)  # until its disk has been looked at once more
        looks.clear()
        await asyncio.sleep(4.0)
        n_looks = len(looks)
    assert n_looks <= 2


async def test_lines_that_come_thick_are_taken_together(tmp_path: Path, looks: list[SpoolReader]) -> None:
    async with followed(tmp_path) as (ground, spool):
        looks.clear()
        for number in range(200):
            append(spool, b"line %d\n" % number)
            await asyncio.sleep(0.002)
        await ground.until_text("line 199")
        n_looks = len(looks)
    assert n_looks < 200


async def test_a_line_that_inotify_tells_of_after_a_rest_is_seen_at_once(tmp_path: Path) -> None:
    async with followed(tmp_path) as (ground, spool):
        append(spool, b"first\n")
        await ground.until_text("first")
        await asyncio.sleep(1.5)  # at rest: the next look by itself is far
        append(spool, b"second\n")
        await asyncio.wait_for(ground.until_text("second"), 2)


async def test_a_line_without_an_end_is_shown_after_a_second_whatever_inotify_told(tmp_path: Path) -> None:
    async with followed(tmp_path) as (ground, spool):
        append(spool, b"whole\n")
        await ground.until_text("whole")
        await asyncio.sleep(1.5)
        append(spool, b"half")
        await asyncio.wait_for(ground.until_text("half"), 3)


async def test_without_inotify_an_idle_engine_is_looked_at_often(
    tmp_path: Path, looks: list[SpoolReader]
) -> None:
    ground = LogGround(tmp_path, inotify=refuse)
    ground.begin(1)
    async with ground.running():
        await ground.until(lambda: len(looks) > 20)
    assert ground.reports[0][0] == "engine_log_polled"


async def test_where_no_watch_is_left_the_spool_is_looked_at_often_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[SpoolReader]
) -> None:
    monkeypatch.setattr(wakeup, "IN_MODIFY", 0)  # EINVAL here, ENOSPC where max_user_watches are used up
    ground = LogGround(tmp_path)
    spool = ground.begin(1)
    async with ground.running():
        append(spool, b"seen\n")
        await ground.until_text("seen")
        await ground.until(lambda: len(looks) > 20)
    assert [event for event, _ in ground.reports] == ["engine_log_polled"]


async def test_an_inotify_that_never_fires_as_on_nfs_is_made_up_for_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "IN_MODIFY", IN_MOVE_SELF)
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"first\n")
    async with ground.running():
        await ground.until_text("first")
        append(spool, b"second\n")
        await ground.until_text("second")
    assert ground.reports == []


async def test_with_the_next_engine_inotify_is_tried_again(tmp_path: Path, looks: list[SpoolReader]) -> None:
    answers = [refuse, open_inotify]
    ground = LogGround(tmp_path, inotify=lambda: answers.pop(0)())
    ground.begin(1, written=b"first\n")
    async with ground.running():
        await ground.until_text("first")
        ground.begin(2, written=b"second\n")
        await ground.until_text("second")
        await asyncio.sleep(1.2)
        looks.clear()
        await asyncio.sleep(2.0)
        n_looks = len(looks)
    assert n_looks <= 3


def refuse() -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
