"""Guards that the engine's log bears what people do by hand to the private raw log and its folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.spool import SpoolFolder
from tests.engine.log_ground import FollowerGround, append, can_punch
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.daemon import DaemonFactory


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[FollowerGround]:
    ground = FollowerGround(tmp_path / "spool")
    yield ground
    ground.close()


def replace_by_a_folder(spool: Path) -> None:
    spool.unlink()
    spool.mkdir()


def replace_by_a_file(spool: Path) -> None:
    spool.unlink()
    spool.write_bytes(b"of somebody else\n")


@pytest.mark.parametrize("remove", [Path.unlink, replace_by_a_folder, replace_by_a_file])
async def test_a_spool_that_is_removed_is_read_to_its_end_and_that_is_said_once(
    ground: FollowerGround, remove: Callable[[Path], None]
) -> None:
    spool = ground.begin(1, written=b"before\n")
    await ground.read_all()
    with spool.open("ab", buffering=0) as engine:
        remove(spool)
        engine.write(b"after\n")
        await ground.read_all()
        engine.write(b"later\n")
    ground.begin(2, written=b"next engine\n")
    await ground.read_all()
    assert ground.data == b"before\nafter\nlater\nnext engine\n"
    assert [notice.partition(". ")[0] for notice in ground.follower.take_notices()] == [
        f"The raw log {spool} was removed by somebody"
    ]
    assert ground.follower.trouble is None


async def test_a_spool_that_is_truncated_is_read_from_its_beginning(ground: FollowerGround) -> None:
    spool = ground.begin(1, written=b"before it was emptied\n")
    await ground.read_all()
    os.truncate(spool, 0)
    append(spool, b"after\n")
    await ground.read_all()
    assert ground.data == b"before it was emptied\nafter\n"
    assert ground.follower.take_notices() == [
        f"The raw log {spool} was truncated by somebody; what was not read by then is missing."
    ]


async def test_of_a_line_that_a_truncation_cuts_nothing_is_shown(ground: FollowerGround) -> None:
    spool = ground.begin(1, written=b"whole\nHTTPS_PROXY:http://user:")
    await ground.read_all()
    os.truncate(spool, 0)
    append(spool, b"SECRET@host\nnext\n")
    await ground.read_all()
    assert ground.data == b"whole\nnext\n"


async def test_after_a_truncation_the_disk_is_given_back_what_is_read(ground: FollowerGround) -> None:
    spool = ground.begin(1, written=b"x\n" * 4_000_000)
    await ground.read_all()
    os.truncate(spool, 0)
    append(spool, b"y\n" * 2_500_000)
    await ground.read_all()
    if not can_punch(spool.parent):
        pytest.skip("HOLES NOT TESTED: this file system cannot punch them")
    assert spool.stat().st_blocks * 512 < 2_000_000


async def test_a_spool_that_cannot_be_opened_is_passed_over_and_that_is_said(ground: FollowerGround) -> None:
    spool = ground.spools.path_for(1)
    spool.mkdir()
    ground.follower.follow(1, spool)
    await ground.read_all()
    while_alone = ground.follower.trouble
    ground.begin(2, written=b"next engine\n")
    await ground.read_all()
    assert while_alone is not None
    assert while_alone.startswith(f"The raw log {spool} cannot be read: Is a directory.")
    assert ground.data == b"next engine\n"
    assert ground.follower.trouble is None
    assert ground.follower.take_notices() == [
        f"The raw log {spool} cannot be read: Is a directory. Its lines are missing in the public log."
    ]


def test_what_is_no_file_is_no_left_over_spool(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool", life="a")
    folder.path_for(1).mkdir()
    folder.path_for(2).symlink_to(tmp_path / "nowhere")
    folder.path_for(3).touch()
    assert SpoolFolder(tmp_path / "spool", life="b").leftovers() == [folder.path_for(3)]


def test_a_folder_that_was_removed_is_made_again_for_the_next_spool(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool")
    folder.path_for(1)
    (tmp_path / "spool").rmdir()
    assert folder.path_for(2).parent.is_dir()


def test_the_next_spool_is_there_before_it_is_needed_and_does_not_outlive_the_daemon(
    daemon: DaemonFactory,
) -> None:
    started = daemon().wait_ready()
    folder = started.state_dir / "spool"
    ahead = list(folder.glob("*-2.log"))
    started.stop()
    assert (len(ahead), list(folder.glob("*-2.log"))) == (1, [])


def test_a_spool_made_ahead_is_the_one_that_is_used(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool")
    folder.make_ahead(2)
    (made,) = (tmp_path / "spool").iterdir()
    assert folder.path_for(2) == made
    folder.remove_unused()
    assert made.exists()


def test_of_spools_made_ahead_only_the_last_is_kept(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool")
    folder.make_ahead(2)
    folder.make_ahead(5)
    assert [path.name[-6:] for path in (tmp_path / "spool").iterdir()] == ["-5.log"]


def test_an_engine_whose_spool_folder_was_removed_serves_on_and_the_next_has_one_again(
    daemon: DaemonFactory,
) -> None:
    started = daemon("flood,mb_per_s=0.1").wait_ready()
    shutil.rmtree(started.state_dir / "spool")
    lines = started.engine_log_text().count("\n")
    wait_until(lambda: started.engine_log_text().count("\n") > lines + 1000, limit_s=10, what="it is read on")
    answer = started.post("/api/process/restart")
    assert (answer.status, answer.json()["generation"]) == (200, 2)
    assert len(list((started.state_dir / "spool").glob("*-2.log"))) == 1


def test_a_daemon_starts_where_another_life_left_a_spool_closed_to_all(daemon: DaemonFactory) -> None:
    prepared = daemon.prepare()
    spool = SpoolFolder(prepared.state_dir / "spool", life="old").path_for(1)
    append(spool, b"of another life\n")
    spool.chmod(0)
    started = prepared.start().wait_ready()
    wait_until(lambda: not spool.exists(), limit_s=10, what="the spool is dealt with")
    assert "of another life\n" in started.engine_log_text()
