"""Guards that a full disk of the models is seen, and that one with room is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.store_disk import FULL_BELOW_BYTES, StoreDisk, read_store_disk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("free_bytes", "is_full"), [(0, True), (FULL_BELOW_BYTES - 1, True), (FULL_BELOW_BYTES, False)]
)
def test_a_disk_without_room_for_a_part_of_a_model_is_full(free_bytes: int, is_full: bool) -> None:
    assert (StoreDisk("/models", free_bytes, 1.0, 2.0).trouble is not None) is is_full


def test_the_sentence_says_where_and_how_much_is_left() -> None:
    trouble = StoreDisk("/models", 3 * 1024 * 1024, 1.0, 2.0).trouble

    assert trouble is not None
    assert trouble.startswith("The disk of the model store /models is full (3 MiB left)")


def test_a_store_that_is_not_there_yet_will_lie_on_the_disk_of_its_parents(tmp_path: Path) -> None:
    disk = read_store_disk(tmp_path / "a" / "b", mono=1.0, at=2.0)
    parent = read_store_disk(tmp_path, mono=1.0, at=2.0)

    assert disk is not None
    assert parent is not None
    assert disk.folder == str(tmp_path / "a" / "b")
    assert disk.free_bytes == pytest.approx(parent.free_bytes, rel=0.1)


def test_a_store_below_a_file_has_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert read_store_disk(tmp_path / "file" / "store", mono=1.0, at=2.0) is None


def test_a_store_that_nobody_may_write_is_never_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = os.statvfs(tmp_path)
    full = os.statvfs_result((*seen[:3], 0, 0, *seen[5:8], seen.f_flag | os.ST_RDONLY, seen[9], seen.f_fsid))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)

    assert read_store_disk(tmp_path, mono=1.0, at=2.0) is None
