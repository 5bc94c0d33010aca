"""One daemon per state folder: a lock that the kernel drops with its holder, and the marks of this life."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from typing import TYPE_CHECKING

from arasul_supervisor.errors import CannotRunHere

if TYPE_CHECKING:
    from pathlib import Path


class StateLock:
    """Holds the state folder while the daemon lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None

    def take(self) -> None:
        """Make the folder (0700) if need be, and lock it.

        :raises CannotRunHere: another daemon holds it, or it cannot be written
        """
        path = self._folder / "lock"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotRunHere(
                f"The state folder {self._folder} cannot be used: {error.strerror}.",
                hint="Make it writable for this user, or set ARASUL_STATE_DIR to a folder that is.",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise CannotRunHere(
                f"Another arasul-supervisor (pid {holder}) holds the state folder {self._folder}.",
                hint="Stop that one first, or give this one an ARASUL_STATE_DIR and ports of its own.",
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the folder free."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def marker_of_this_life(folder: Path) -> str:
    """`<installation>:<nonce>`: the first half is kept in the state folder, the second is new at each start.

    The installation tells our strays from another installation's engine; the nonce keeps the guardian of an
    earlier life away from this one's.
    """
    return f"{_installation(folder)}:{secrets.token_hex(8)}"


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
    fresh = secrets.token_hex(16)
    path.write_text(fresh + "\n", encoding="ascii")
    return fresh
