"""Guards that a full disk below the raw log is seen and said, and glues no two lines into one that nobody wrote."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.follower import FULL_MARK, MISSING_NOTE
from tests.engine.log_ground import FollowerGround, append
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def ground(disk_of_2_mib: Path) -> Iterator[FollowerGround]:
    ground = FollowerGround(disk_of_2_mib / "spool")
    yield ground
    ground.close()


async def test_a_full_disk_is_said_and_its_end_too(ground: FollowerGround, disk_of_2_mib: Path) -> None:
    ground.begin(1, written=b"before\n")
    await ground.read_all()
    fill(disk_of_2_mib / "ballast")
    ground.clock.now += 1.0
    await ground.read_all()
    while_full = ground.follower.trouble
    (disk_of_2_mib / "ballast").unlink()
    ground.clock.now += 1.0
    await ground.read_all()
    assert while_full == (
        f"The disk of {disk_of_2_mib}/spool is full: the engine runs on, but its log lines are lost. "
        "Make room there, or set ARASUL_STATE_DIR to a folder on another disk."
    )
    assert ground.follower.trouble is None
    assert ground.follower.take_notices() == [
        f"The disk of {disk_of_2_mib}/spool has room again; what the engine logged meanwhile is lost."
    ]
    assert ground.data == b"before\n" + MISSING_NOTE


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the disk is looked at."""
    looks: list[int] = []
    really = os.fstatvfs

    def count(fd: int) -> os.statvfs_result:
        looks.append(fd)
        return really(fd)

    monkeypatch.setattr(os, "fstatvfs", count)
    return looks


async def test_the_disk_of_a_log_that_grows_is_looked_at_once_a_second(
    ground: FollowerGround, looks: list[int]
) -> None:
    spool = ground.begin(1)
    for _ in range(100):  # 2.5 s in steps of 25 ms
        append(spool, LINE)
        await ground.read_all()
        ground.clock.now += 0.025
    assert len(looks) == 3


async def test_the_disk_of_a_log_that_rests_is_looked_at_every_five_seconds(
    ground: FollowerGround, looks: list[int]
) -> None:
    ground.begin(1, written=b"all\n")
    for _ in range(110):  # 11 s in steps of 0.1 s: at 0, at 1 after the line, then at 6 and 11
        await ground.read_all()
        ground.clock.now += 0.1
    assert len(looks) == 3


async def test_a_line_that_the_full_disk_cut_is_not_glued_to_the_next(
    ground: FollowerGround, disk_of_2_mib: Path
) -> None:
    spool = ground.begin(1)
    await ground.read_all()
    fill(disk_of_2_mib / "ballast", leaving=4096)
    n_whole = writes_until_full(spool)
    await ground.read_all()  # the clock stands: a line without an end is reason enough to look
    (disk_of_2_mib / "ballast").unlink()
    append(spool, b"next\n")
    ground.clock.now += 1.0
    await ground.read_all()
    cut_line = b"x" * (4096 - n_whole * len(LINE)) + FULL_MARK
    assert ground.data == LINE * n_whole + cut_line + MISSING_NOTE + b"next\n"


async def test_a_line_without_an_end_on_a_disk_with_room_is_continued(ground: FollowerGround) -> None:
    spool = ground.begin(1, written=b"half a ")
    await ground.read_all()
    append(spool, b"line\n")
    await ground.read_all()
    assert ground.data == b"half a line\n"


async def test_a_disk_without_figures_is_not_called_full(disk_without_holes: Path) -> None:
    ground = FollowerGround(disk_without_holes / "spool")
    ground.begin(1, written=b"here\n")
    await ground.read_all()
    trouble = ground.follower.trouble
    ground.close()
    assert trouble is None


def test_the_engine_serves_on_while_the_disk_is_full_and_the_daemon_says_so(
    disk_of_2_mib: Path, daemon: DaemonFactory
) -> None:
    environment = {"ARASUL_STATE_DIR": str(disk_of_2_mib / "state")}
    started = daemon("flood,mb_per_s=0.5", env=environment).wait_ready()
    ballast = disk_of_2_mib / "ballast"

    def is_said() -> bool:
        fill(ballast)  # again and again: holes are punched into the raw log
        return f"The disk of {disk_of_2_mib}/state/spool is full" in started.log_text()

    wait_until(is_said, limit_s=15, what="the full disk is said")
    assert started.get("/api/version").status == 200
    ballast.unlink()
    wait_until(
        lambda: MISSING_NOTE.decode() in started.engine_log_text(), limit_s=10, what="the end is said too"
    )
    assert started.process()["generation"] == 1


def fill(ballast: Path, *, leaving: int = 0) -> None:
    """Takes all room of the disk, or all but some bytes."""
    with ballast.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        if leaving:
            file.truncate(file.tell() - leaving)


def writes_until_full(spool: Path) -> int:
    """Lines as an engine writes them, until one finds no room; the number of whole ones."""
    n_whole = 0
    with spool.open("ab", buffering=0) as file:
        while file.write(LINE) == len(LINE):
            n_whole += 1
    return n_whole
