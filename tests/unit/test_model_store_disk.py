"""Guards that a full disk of the models is seen and told once, and that one with room is not."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store.disk import FULL_BELOW_BYTES, StoreDisk, read_store_disk
from arasul_supervisor.telemetry import store_watch
from arasul_supervisor.telemetry.store_watch import StoreWatch
from tests.engine.telemetry_ground import Diary, HandClock

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


def disk(free_bytes: int, *, used_bytes: int = GIB, is_read_only: bool = False) -> StoreDisk:
    return StoreDisk("/models", 2 * GIB, used_bytes, free_bytes, 1000.0, 2.0, is_read_only)


class Disks:
    """Stands where the disk is read: the next looks in turn, each a disk or a hang until `may_go_on`."""

    def __init__(self, *looks: StoreDisk | None) -> None:
        self.looks = list(looks)
        self.may_go_on = threading.Event()

    def read(self, folder: Path, *, mono: float, at: float) -> StoreDisk | None:
        look = self.looks.pop(0)
        if look is None:
            self.may_go_on.wait(10)
        return look


@pytest.mark.parametrize(
    ("free_bytes", "is_full"), [(0, True), (FULL_BELOW_BYTES - 1, True), (FULL_BELOW_BYTES, False)]
)
def test_a_disk_without_room_for_a_part_of_a_model_is_full(free_bytes: int, is_full: bool) -> None:
    assert (disk(free_bytes).trouble is not None) is is_full


def test_the_sentence_says_where_and_how_much_is_left() -> None:
    trouble = disk(3 * 1024 * 1024).trouble

    assert trouble is not None
    assert trouble.startswith("The disk of the model store /models is full (3 MiB left)")


def test_the_share_in_use_leaves_out_what_only_root_may_write() -> None:
    assert disk(free_bytes=GIB // 4, used_bytes=3 * GIB // 4).used_percent == 75.0  # of ¼ + ¾, not of 2


def test_a_disk_without_a_byte_for_anybody_has_no_share() -> None:
    assert disk(0, used_bytes=0).used_percent is None


def test_a_store_that_is_not_there_yet_will_lie_on_the_disk_of_its_parents(tmp_path: Path) -> None:
    found = read_store_disk(tmp_path / "a" / "b", mono=1.0, at=2.0)
    parent = read_store_disk(tmp_path, mono=1.0, at=2.0)

    assert found is not None
    assert parent is not None
    assert found.folder == str(tmp_path / "a" / "b")
    assert found.total_bytes == parent.total_bytes > found.used_bytes > 0
    assert found.free_bytes == pytest.approx(parent.free_bytes, rel=0.1)


def test_a_store_below_a_file_has_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert read_store_disk(tmp_path / "file" / "store", mono=1.0, at=2.0) is None


def test_a_store_that_nobody_may_write_is_never_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = os.statvfs(tmp_path)
    full = os.statvfs_result((*seen[:3], 0, 0, *seen[5:8], seen.f_flag | os.ST_RDONLY, seen[9], seen.f_fsid))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)

    found = read_store_disk(tmp_path, mono=1.0, at=2.0)

    assert found is not None
    assert (found.free_bytes, found.trouble) == (0, None)


def test_a_folder_whose_name_is_no_text_can_still_be_shown(tmp_path: Path) -> None:
    found = read_store_disk(tmp_path / os.fsdecode(b"\xff"), mono=1.0, at=2.0)

    assert found is not None
    assert found.folder.encode().endswith("�".encode())


async def test_a_full_disk_is_told_once_and_again_after_there_was_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full, roomy = disk(0), disk(GIB)
    disks, log = Disks(full, full, roomy, full), Diary()
    monkeypatch.setattr(store_watch, "read_store_disk", disks.read)
    watch = StoreWatch(tmp_path, HandClock(), log, stale_after_s=10.0)

    told = []
    for _ in range(4):
        await watch.look((), timeout_s=5.0)
        told.append(log.events("error").count("engine_outcome"))

    assert told == [1, 1, 1, 2]


async def test_a_look_that_hangs_neither_has_a_full_disk_told_twice_nor_hides_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = disk(0)
    disks, log = Disks(full, None, full), Diary()
    monkeypatch.setattr(store_watch, "read_store_disk", disks.read)
    watch = StoreWatch(tmp_path, HandClock(), log, stale_after_s=10.0)

    await watch.look((), timeout_s=5.0)
    await watch.look((), timeout_s=0.02)  # hangs
    while_it_hangs = watch.disk
    disks.may_go_on.set()
    await watch.settle(timeout_s=5.0)
    await watch.look((), timeout_s=5.0)

    assert while_it_hangs is full
    assert log.events("error") == ["engine_outcome"]


async def test_a_disk_that_was_not_seen_for_long_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = HandClock()
    monkeypatch.setattr(store_watch, "read_store_disk", Disks(disk(GIB)).read)
    watch = StoreWatch(tmp_path, clock, Diary(), stale_after_s=10.0)

    await watch.look((), timeout_s=5.0)
    fresh = watch.disk
    clock.now += 10.1

    assert (fresh is not None, watch.disk) == (True, None)


async def test_without_a_folder_nothing_is_looked_at() -> None:
    watch = StoreWatch(None, HandClock(), Diary(), stale_after_s=10.0)

    await watch.look({"sha256:" + "a" * 64}, timeout_s=0.0)

    assert (watch.disk, watch.names) == (None, {})
