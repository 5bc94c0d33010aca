"""The public `ollama.log`: ours alone, so that `grep`, `tail -F`, `ls -l` and logrotate find what they expect."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.resume import NOWHERE, PublicPart
from arasul_supervisor.logs.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.clock import Clock

MODE: Final = 0o640
LOOK_EVERY_S: Final = 1.0  # for a file that was moved or removed by somebody else
RETRY_EVERY_S: Final = 60.0  # after a rotation that failed
NOTE: Final = "arasul-supervisor: {n} lines of the engine are missing here: {why}\n"


class PublicLog:
    """Appends blocks of lines and rotates by size: `ollama.log`, `.1`, `.2.gz`, `.3.gz`.

    It never raises for what the disk does: lines that cannot be written are counted, said once when it begins and
    once, in the file, when it is over. Written from one thread at a time; `reopen` may come from any.

    An operator's logrotate that renames the file costs no line: what is written until we look (a second) goes to the
    renamed one, which must not be compressed by then (delaycompress, or SIGHUP). With copytruncate logrotate itself
    loses what is written between its copy and its truncation, and may cut a line at the end of the copy.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int, clock: Clock) -> None:
        """Name the file; it is opened, with its parents made, at the first write.

        :param max_bytes: size that a file does not pass, unless by one line; 0 leaves rotation to others
        :param keep: number of older files
        """
        self._path = path
        self._max_bytes = max_bytes or sys.maxsize
        self.rotation = Rotation(keep)
        self._clock = clock
        self._fd = -1
        self._identity = (0, 0)
        self._is_file = True  # no pipe or device, which are neither rotated nor looked for
        self._size_bytes = 0
        self._looked_mono = self._rotate_mono = float("-inf")
        self._should_reopen = False
        self._is_torn = False
        self._untold = 0
        self._error: OSError | None = None
        self._rotation_error: OSError | None = None
        self._notices: list[str] = []
        self.lost_lines = 0

    def write(
        self, data: bytes, note: Callable[[PublicPart], None] = lambda _part: None, done: int = 0
    ) -> None:
        """Appends complete lines.

        :param note: told of each part of them before it is written
        :param done: bytes of the same block that stand in the file already
        """
        total = done + len(data)
        try:
            self._tend()
            self._begin_line(is_continued=bool(done))
            while data:
                part = self._next_part(data)
                place = PublicPart(*self._identity, self._size_bytes, total - len(data), len(part), total)
                note(place if self._is_file else NOWHERE)
                data = data[self._append(part) :]
        except OSError as error:
            self._lose(data, error)
            note(NOWHERE)

    def sizes(self) -> dict[tuple[int, int], int]:
        """The sizes of the files that may hold the last lines, by device and inode."""
        found = {}
        real = os.path.realpath(self._path)
        for path in (real, f"{real}.1"):
            with suppress(OSError):
                seen = os.stat(path)
                found[seen.st_dev, seen.st_ino] = seen.st_size
        return found

    def reopen(self) -> None:
        """Opens the path anew at the next write: an operator's logrotate has moved the file."""
        self._should_reopen = True

    @property
    def trouble(self) -> str | None:
        """What is wrong with the file now, as a sentence that a person can act on; None while all is well."""
        if self._error:
            return f"{self._cannot_be_written(self._error)} {self._untold} lines are missing there so far."
        if self._rotation_error:
            return self._cannot_be_rotated(self._rotation_error)
        return None

    def take_notices(self) -> list[str]:
        """Sentences for the daemon's own log, each given once."""
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        """Lets go of the file, and compresses no further ones."""
        self._let_go()
        self.rotation.close()

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tend(self) -> None:
        now = self._clock.mono()
        if self._should_reopen:
            self._should_reopen = False
            self._let_go()
        elif self._fd >= 0 and self._is_file:
            if self._was_moved(now):
                self._let_go()
            else:
                self._size_bytes = os.fstat(self._fd).st_size  # logrotate's copytruncate makes it smaller
                self._is_torn &= self._size_bytes > 0
        if self._fd < 0:
            self._open()

    def _open(self) -> None:
        real = os.path.realpath(self._path)  # the path may be a link whose target is still to be made
        os.makedirs(os.path.dirname(real), exist_ok=True)
        # O_NONBLOCK: a fifo without a reader must not hold the thread; a regular file does not mind
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(real, flags | os.O_CREAT | os.O_EXCL, MODE)
            with suppress(OSError):  # some file systems know no modes
                os.fchmod(self._fd, MODE)  # whatever the umask; a file that was there keeps its mode
        except FileExistsError:
            self._fd = os.open(real, flags | os.O_CREAT, MODE)
        seen = os.fstat(self._fd)
        self._size_bytes = seen.st_size
        self._identity = (seen.st_dev, seen.st_ino)
        self._is_file = stat.S_ISREG(seen.st_mode)
        self._is_torn = self._is_file and not ends_with_a_line(real)
        self._looked_mono = self._clock.mono()

    def _was_moved(self, now_mono: float) -> bool:
        if now_mono - self._looked_mono < LOOK_EVERY_S:
            return False
        self._looked_mono = now_mono
        return self._identity != self._identity_of_path()

    def _identity_of_path(self) -> tuple[int, int] | None:
        try:
            seen = os.stat(self._path)
        except FileNotFoundError:
            return None
        return seen.st_dev, seen.st_ino

    def _next_part(self, data: bytes) -> bytes:
        """As many whole lines as the file still takes; rotates when it takes none."""
        room = self._max_bytes - self._size_bytes
        if len(data) <= room or not self._is_file:
            self._rotation_error = None
            return data
        cut = data.rfind(b"\n", 0, max(room, 0)) + 1
        if cut == 0 and self._size_bytes > 0:
            return self._next_part(data) if self._rotate() else data
        return data[: cut or data.find(b"\n") + 1 or len(data)]

    def _rotate(self) -> bool:
        now = self._clock.mono()
        if now < self._rotate_mono:
            return False
        real = os.path.realpath(self._path)  # the path may be a link: its target moves, the link stays
        try:
            self.rotation.rotate(real)
            self._let_go()
            self._open()
        except OSError as error:
            self._rotate_mono = now + RETRY_EVERY_S
            self._rotation_error = error
            self._notices.append(self._cannot_be_rotated(error))
            if self._fd < 0:
                raise
            return False
        self._rotation_error = None
        return True

    def _lose(self, data: bytes, error: OSError) -> None:
        n_lines = data.count(b"\n")
        self.lost_lines += n_lines
        self._untold += n_lines
        if not self._error:
            self._notices.append(
                f"{self._cannot_be_written(error)} Lines are missing there until then; see /api/logs for the latest."
            )
        self._error = error

    def _begin_line(self, *, is_continued: bool) -> None:
        """Ends a line that is not whole, unless what comes is its rest, and says what is missing."""
        beginning = "\n" if self._is_torn and not is_continued else ""
        if self._error:
            beginning += NOTE.format(n=self._untold, why=self._error.strerror)
        rest = beginning.encode()
        while rest:
            rest = rest[self._append(rest) :]
        if self._error:
            self._notices.append(
                f"The engine log {self._path} is written again; {self._untold} lines are missing in it."
            )
        self._error, self._untold = None, 0

    def _append(self, data: bytes) -> int:
        """Writes once; gives the number of bytes that found room."""
        written = os.write(self._fd, data)
        self._size_bytes += written
        self._is_torn = not data[:written].endswith(b"\n")
        return written

    def _cannot_be_written(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Make room on its disk, or lower ARASUL_LOG_MAX_BYTES or ARASUL_LOG_KEEP."
        else:
            remedy = "Let the daemon write there, or set ARASUL_LOG_FILE to another place."
        return f"The engine log {self._path} cannot be written: {error.strerror}. {remedy}"

    def _cannot_be_rotated(self, error: OSError) -> str:
        return (
            f"The engine log {self._path} cannot be rotated: {error.strerror}. "
            "It grows on; let the daemon write in its folder, or set ARASUL_LOG_FILE."
        )


def ends_with_a_line(path: str) -> bool:
    """False when the last line of a file has no end; true when nobody lets us look."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read(1) in (b"", b"\n")
    except OSError:
        return True
