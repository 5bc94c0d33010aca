"""Disks that a test may fill, and such as cannot punch holes: mounted for it, gone after it. They need root."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
