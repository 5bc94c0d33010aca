"""Guards the lock of the state folder where the folder is a link, as in our image."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.engine.daemon import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

TAKE = """
import pathlib, sys
from arasul_supervisor.supervision.lock import StateLock
StateLock(pathlib.Path(sys.argv[1])).take()
"""


def test_a_link_into_an_empty_volume_is_followed_and_the_folder_there_is_closed_to_others(
    tmp_path: Path,
) -> None:
    place, target = tmp_path / "state", tmp_path / "volume" / "supervisor"
    target.parent.mkdir()
    place.symlink_to(target)

    # in a process of its own: a lock is held until its holder ends
    subprocess.run([sys.executable, "-c", TAKE, str(place)], cwd=REPOSITORY, check=True, timeout=20)

    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert (target / "lock").exists()
