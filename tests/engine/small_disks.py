"""Disks that a test may fill, grow or make read-only, and such as cannot punch holes: mounted for it, gone after it.

They need root.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A tmpfs."""

    folder: Path

    @property
    def free_bytes(self) -> int:
        """Room that is left."""
        seen = os.statvfs(self.folder)
        return seen.f_bavail * seen.f_frsize

    def grow_to(self, mib: int) -> None:
        """Make it that large."""
        self._remount(f"size={mib}m")

    def make_read_only(self) -> None:
        """Refuse every write; no file on it may be open for one."""
        self._remount("ro")

    def fill(self) -> Path:
        """Another writer takes all room; its file, which gives the room back when it goes."""
        hog = self.folder / "hog"
        with hog.open("ab") as file:
            while self.free_bytes:
                with suppress(OSError):  # somebody else wrote meanwhile
                    os.posix_fallocate(file.fileno(), file.tell(), self.free_bytes)
                    file.seek(0, os.SEEK_END)
        return hog

    def _remount(self, option: str) -> None:
        done = _run("mount", "-o", f"remount,{option}", str(self.folder))
        assert done.returncode == 0, done.stderr


@contextmanager
def small_disk_of(folder: Path, *, mib: int) -> Iterator[SmallDisk]:
    """A disk of that size on a folder that is not there yet; the test is skipped where none can be mounted."""
    with _mounted(folder, "tmpfs", f"size={mib}m", untested="FULL DISK") as disk:
        yield SmallDisk(disk)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    with _mounted(tmp_path / "disk", "tmpfs", "size=64k", untested="FULL DISK") as disk:
        yield disk


@pytest.fixture
def disk_of_2_mib(tmp_path: Path) -> Iterator[Path]:
    """A disk that a log fills soon."""
    with _mounted(tmp_path / "disk", "tmpfs", "size=2m", untested="FULL DISK") as disk:
        yield disk


@pytest.fixture
def disk_without_holes(tmp_path: Path) -> Iterator[Path]:
    """A file system that refuses FALLOC_FL_PUNCH_HOLE: ramfs, which every kernel has."""
    with _mounted(tmp_path / "disk", "ramfs", "mode=755", untested="REFUSED HOLES") as disk:
        yield disk


@contextmanager
def _mounted(folder: Path, kind: str, options: str, *, untested: str) -> Iterator[Path]:
    folder.mkdir()
    done = _run("mount", "-t", kind, "-o", options, kind, str(folder))
    if done.returncode:
        pytest.skip(f"{untested} NOT TESTED: {kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        wait_until(partial(_is_unmounted, folder), limit_s=5, what="the disk is let go of")


def _is_unmounted(folder: Path) -> bool:
    return _run("umount", str(folder)).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
