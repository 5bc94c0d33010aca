"""One daemon per state folder: a lock that the kernel drops with its holder, and the marks of this life."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from arasul_supervisor.errors import CannotRunHere
from arasul_supervisor.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path


class StateLock:
    """Holds the state folder itself while the daemon lives: a file in it could be removed and made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None

    def take(self) -> None:
        """Make the folder (0700) if need be, and lock it; the file `lock` in it says who holds it.

        :raises CannotRunHere: another daemon holds it, or it cannot be used
        """
        try:
            # the folder may be a link into a volume that is still empty
            os.makedirs(os.path.realpath(self._folder), mode=0o700, exist_ok=True)
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotRunHere(
                f"Another arasul-supervisor (pid {self._holder()}) holds the state folder {self._folder}.",
                hint="Stop that one first, or give this one an ARASUL_STATE_DIR and ports of its own.",
            ) from error
        except OSError as error:
            raise unusable(self._folder, error) from error
        with suppress(OSError):  # it only serves a second daemon's message: a full disk must not keep us down
            write_whole(self._folder / "lock", f"{os.getpid()}\n".encode())

    def _holder(self) -> str:
        try:
            return str(int((self._folder / "lock").read_text(encoding="ascii")))
        except (OSError, ValueError):
            return "unknown"


def unusable(folder: Path, error: OSError) -> CannotRunHere:
    """The state folder cannot be written."""
    return CannotRunHere(
        f"The state folder {folder} cannot be used: {error.strerror}.",
        hint="Make room and make it writable for this user, or set ARASUL_STATE_DIR to a folder that is.",
    )


def marker_of_this_life(folder: Path) -> str:
    """`<installation>:<nonce>`: the first half is kept in the state folder, the second is new at each start.

    The installation tells our strays from another installation's engine; the nonce keeps the guardian of an
    earlier life away from this one's.

    :raises CannotRunHere: the folder cannot be written
    """
    return f"{_installation(folder)}:{os.urandom(8).hex()}"


def installation_prefix(marker: str) -> str:
    """`<installation>:`, which all lives of this installation share."""
    return marker.partition(":")[0] + ":"


def _installation(folder: Path) -> str:
    path = folder / "installation-id"
    try:
        known = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if len(known) == 32 and known.isalnum():
        return known
    fresh = os.urandom(16).hex()
    try:
        write_whole(path, f"{fresh}\n".encode())
    except OSError as error:
        raise unusable(folder, error) from error
    return fresh
