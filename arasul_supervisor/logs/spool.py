"""The private raw log of one engine generation: where it lies, and the end of it that we read.

The engine alone writes it, with O_APPEND; so neither a rotation nor a stalled daemon ever blocks the engine
(facts/process.md §9). We free what was read by punching holes behind us, or by emptying the file where its file system
cannot punch, and remove it when its generation is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import CannotRunHere
from arasul_supervisor.logs.resume import NOTE_SUFFIX, SpoolNote

if TYPE_CHECKING:
    from pathlib import Path

FALLOC_FL_KEEP_SIZE: Final = 1
FALLOC_FL_PUNCH_HOLE: Final = 2
PUNCH_BYTES: Final = 1024 * 1024
ALIGN_BYTES: Final = 64 * 1024
"""Holes end on such a border, for of a block that two holes share neither frees it: 3 MB of each GB stayed on the disk.
No file system in use here has larger blocks."""
EMPTY_FROM_BYTES: Final = 64 * 1024 * 1024
"""What an unpunched spool may hold before it is emptied when read to its end: rarely, for a line may be lost by it."""
OVERGROWN_BYTES: Final = 4 * EMPTY_FROM_BYTES
"""From here on it is emptied though unread lines are lost: under a flood the reader is never at the end."""
COUNT_BYTES: Final = 1024 * 1024
COUNT_PASSES: Final = 4  # each counts what was written during the one before
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
        self._ahead: tuple[int, Path] | None = None

    def path_for(self, generation: int) -> Path:
        """The spool of this generation, unique over all lives. The spawner creates it (0600, O_APPEND)."""
        self._prepare()
        if self._ahead is not None and self._ahead[0] == generation:
            (_, path), self._ahead = self._ahead, None
            return path
        return self._path / f"{PREFIX}{self._life}-{generation}{SUFFIX}"

    def make_ahead(self, generation: int) -> None:
        """Create the spool of a generation that may come: 0.1 ms that its start need not take."""
        self.remove_unused()
        with contextlib.suppress(OSError, CannotRunHere):  # then that start creates it, or says why not
            path = self.path_for(generation)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._ahead = (generation, path)

    def remove_unused(self) -> None:
        """Remove what was created ahead and is not needed any more."""
        if self._ahead is not None:
            with contextlib.suppress(OSError):
                self._ahead[1].unlink()
            self._ahead = None

    def leftovers(self) -> list[Path]:
        """The spools of earlier lives, whose engines are dead, the oldest first. Notes without a spool are removed."""
        self._prepare()
        ours = f"{PREFIX}{self._life}-"
        spools: list[tuple[float, Path]] = []
        for path in self._path.iterdir():
            if path.name.startswith(ours) or not path.name.startswith(PREFIX):
                continue
            if path.name.endswith(SUFFIX):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):  # somebody may have put a folder or a link in its place
                    spools.append((seen.st_mtime, path))
            elif (
                path.name.endswith(NOTE_SUFFIX)
                and not path.with_name(path.name[: -len(NOTE_SUFFIX)]).exists()
            ):
                path.unlink(missing_ok=True)
        return [path for _, path in sorted(spools)]

    def _prepare(self) -> None:
        try:
            seen = self._seen_or_made()
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

    def _seen_or_made(self) -> os.stat_result:
        with contextlib.suppress(FileNotFoundError):
            return os.lstat(self._path)  # as a rule: between a death and the next spawn each call counts
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._path.lstat()

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
        self.note = SpoolNote(path)
        self.is_removed = False
        """Whether its name was gone at the last look: the engine writes on, and we read on, until it ends."""
        self._fd = os.open(
            path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        )  # punching needs the right to write
        self._freed = first_data(self._fd)
        self._is_unpunchable = False  # as far as is known
        self.offset = max(offset, self._freed)

    def size_bytes(self) -> int:
        """The apparent size: it only grows, punched or not, unless the file is emptied."""
        seen = os.fstat(self._fd)
        self.is_removed = not seen.st_nlink
        return seen.st_size

    def room_bytes(self) -> int:
        """What its disk still takes from this user; root may use what is reserved."""
        seen = os.fstatvfs(self._fd)
        if not seen.f_blocks:  # ramfs and some of FUSE have no figure
            return sys.maxsize
        return seen.f_frsize * (seen.f_bavail if os.geteuid() else seen.f_bfree)

    def is_overgrown(self, size_bytes: int) -> bool:
        """True when a spool of this size must be emptied, read or not: nothing else frees its disk."""
        return self._is_unpunchable and size_bytes - self._freed > OVERGROWN_BYTES

    def peek(self, limit_bytes: int, *, start: int | None = None) -> bytes:
        """Up to so many bytes from `start`, or the first unread ones; moves nothing."""
        return os.pread(self._fd, limit_bytes, self.offset if start is None else start)

    def count_lines(self, end: int, *, start: int | None = None) -> int:
        """The number of newlines from `start`, or the first unread byte, up to `end`; moves nothing."""
        position, n_lines = self.offset if start is None else start, 0
        while position < end:
            chunk = os.pread(self._fd, min(COUNT_BYTES, end - position), position)
            if not chunk:
                break
            n_lines += chunk.count(b"\n")
            position += len(chunk)
        return n_lines

    def free(self, end: int) -> bool:
        """Gives the disk back what lies before `end`, in steps of at least 1 MiB.

        Where holes are refused, the whole file is emptied once it is large and read to its end. The engine's next line
        then lands at 0 (O_APPEND); one that it writes between our look at the size and the truncation is lost.

        :returns: whether it was emptied
        :raises OSError: it can be neither punched nor emptied
        """
        length = end - self._freed
        if length < PUNCH_BYTES:
            return False
        whole = length - (self._freed + length) % ALIGN_BYTES
        if punch_hole(self._fd, self._freed, whole):
            self._freed += whole
            return False
        self._is_unpunchable = True
        if length < EMPTY_FROM_BYTES or self.size_bytes() != end:
            return False
        self._empty()
        return True

    def empty_unread(self) -> tuple[int, bool]:
        """Empties the file though not all of it was read.

        :returns: the unread lines, but for those of the last moment, and whether the last of them had ended
        :raises OSError: it cannot be emptied
        """
        counted_to, n_lines = self.offset, 0
        for _ in range(COUNT_PASSES):
            size = self.size_bytes()
            n_lines += self.count_lines(size, start=counted_to)
            counted_to = size
        has_ended = os.pread(self._fd, 1, counted_to - 1) == b"\n"
        self._empty()
        return n_lines, has_ended

    def begin_anew(self) -> None:
        """Goes on at 0: the file was emptied."""
        self.offset = self._freed = 0
        # killed before it is noted, or if it cannot be: the size tells a later life that the noted place is gone
        with contextlib.suppress(OSError):
            self.note.begin_anew()

    def _empty(self) -> None:
        os.ftruncate(self._fd, 0)
        self.begin_anew()

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


def first_data(fd: int) -> int:
    """Where a file begins that may have been punched from its beginning on; 0 where that cannot be told."""
    size = os.fstat(fd).st_size  # before the look: what is appended now is no hole
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else 0
