"""Which files below a folder are open in the engine's tree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.runners import descendants

if TYPE_CHECKING:
    from pathlib import Path


def open_files(pid: int | None, below: Path) -> frozenset[str]:
    """Paths below the folder that the process, or one below it, has open; none when it is gone.

    They begin as `below` is given, whatever links lead there. A file that is only mapped is not among them, nor one
    of a process that is not ours to see. Blocks while `/proc` does: call it in a thread.

    :param pid: None: there is no such process now
    :param below: an absolute path
    """
    if pid is None:
        return frozenset()
    real = os.path.realpath(below)
    found: set[str] = set()
    for one in (pid, *descendants(pid)):
        found.update(
            os.path.join(below, os.path.relpath(path, real))
            for path in _paths(one)
            if path.startswith(real + os.sep)
        )
    return frozenset(found)


def _paths(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:  # gone, or not ours to see
        return []
    found: list[str] = []
    for number in numbers:
        try:
            found.append(os.readlink(f"{folder}/{number}"))
        except OSError:  # closed meanwhile
            continue
    return found
