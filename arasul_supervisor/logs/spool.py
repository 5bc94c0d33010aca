"""The private raw log of one engine generation: where it lies, and the end of it that we read.

The engine alone writes it, with O_APPEND; so neither a rotation nor a stalled daemon ever blocks the engine
(facts/process.md §9). We free what was read by punching holes behind us, and remove the file when its generation is
over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import CannotRunHere
from arasul_supervisor.logs.resume import NOTE_SUFFIX, SpoolNote

if TYPE_CHECKING:
    from pathlib import Path

FALLOC_FL_KEEP_SIZE: Final = 1
FALLOC_FL_PUNCH_HOLE: Final = 2
PUNCH_BYTES: Final = 1024 * 1024
COUNT_BYTES: Final = 1024 * 1024
PREFIX: Final = "engine-"
SUFFIX: Final = ".log"


class SpoolFolder:
    """The folder that holds the spools, open to nobody else: their lines are not redacted yet."""

    def __init__(self, path: Path, *, life: str | None = None) -> None:
        """Name the folder; nothing is touched yet.

        :param path: the folder, made at the first use
        :param life: what tells this life of the daemon from all others; drawn when None
        """
        self._path = path
        self._life = life or os.urandom(4).hex()

    def path_for(self, generation: int) -> Path:
        """The spool of this generation, unique over all lives. The spawner creates it (0600, O_APPEND)."""
        self._prepare()
        return self._path / f"{PREFIX}{self._life}-{generation}{SUFFIX}"

    def leftovers(self) -> list[Path]:
        """The spools of earlier lives, whose engines are dead, the oldest first. Notes without a spool are removed."""
        self._prepare()
        ours = f"{PREFIX}{self._life}-"
        spools: list[tuple[float, Path]] = []
        for path in self._path.iterdir():
            if path.name.startswith(ours) or not path.name.startswith(PREFIX):
                continue
            if path.name.endswith(SUFFIX):
                spools.append((path.stat().st_mtime, path))
            elif (
                path.name.endswith(NOTE_SUFFIX)
                and not path.with_name(path.name[: -len(NOTE_SUFFIX)]).exists()
            ):
                path.unlink(missing_ok=True)
        return [path for _, path in sorted(spools)]

    def _prepare(self) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            seen = self._path.lstat()
            if not stat.S_ISDIR(seen.st_mode):
                raise CannotRunHere(
                    f"{self._path} must be a folder: it takes the engine's raw log.", hint="Move it away."
                )
            if seen.st_uid != os.geteuid():
                self._take_over(seen.st_uid)
            if stat.S_IMODE(seen.st_mode) != 0o700:
                self._path.chmod(0o700)
        except OSError as error:
            raise CannotRunHere(
                f"The folder {self._path} for the engine's raw log cannot be made: {error.strerror}.",
                hint="Set ARASUL_STATE_DIR to a folder that may be written.",
            ) from error

    def _take_over(self, owner: int) -> None:
        """Make the folder ours, which only root can: a container without root has used the volume before."""
        user = os.geteuid()
        if user != 0:
            raise CannotRunHere(
                f"{self._path} belongs to uid {owner}, and this daemon runs as uid {user}: it takes the engine's raw "
                "log, which nobody else may read.",
                hint=f"Type `chown -R {user} {self._path.parent}` as root.",
            )
        os.chown(self._path, user, -1, follow_symlinks=False)


class SpoolReader:
    """Reads one spool, keeping the offset of the first byte not yet read."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.note = SpoolNote(path)
        self._freed = 0
        self._can_punch = True
        self._fd = os.open(
            path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        )  # punching needs the right to write

    def size_bytes(self) -> int:
        """The apparent size: it only grows, punched or not."""
        return os.fstat(self._fd).st_size

    def peek(self, limit_bytes: int, *, start: int | None = None) -> bytes:
        """Up to so many bytes from `start`, or the first unread ones; moves nothing."""
        return os.pread(self._fd, limit_bytes, self.offset if start is None else start)

    def count_lines(self, end: int) -> int:
        """The number of newlines between the offset and `end`."""
        position, n_lines = self.offset, 0
        while position < end:
            chunk = os.pread(self._fd, min(COUNT_BYTES, end - position), position)
            if not chunk:
                break
            n_lines += chunk.count(b"\n")
            position += len(chunk)
        return n_lines

    def free(self, end: int) -> None:
        """Gives the disk back what lies before `end`, in steps of at least 1 MiB; where it cannot be done, it stays."""
        length = end - self._freed
        if length < PUNCH_BYTES or not self._can_punch:
            return
        self._can_punch = punch_hole(self._fd, self._freed, length)
        self._freed = end

    def remove(self) -> None:
        """Removes the file with its note, and lets go of it. Where that fails the next life finds it dealt with."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.note.remove()
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self.note.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Frees a range of a file, whose size and other bytes stay. False when it cannot be done here."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length) != 0:
        if ctypes.get_errno() != errno.EINTR:
            return False
    return True
