"""The public `ollama.log`: ours alone, so that `grep`, `tail -F`, `ls -l` and logrotate find what they expect."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.resume import PublicPart
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
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int, clock: Clock) -> None:
        """Name the file; it is opened, with its parents made, at the first write.

        :param max_bytes: size that a file does not pass, unless by one line
        :param keep: number of older files
        """
        self._path = path
        self._max_bytes = max_bytes
        self.rotation = Rotation(keep)
        self._clock = clock
        self._fd = -1
        self._identity: tuple[int, int] | None = (
            None  # None: a pipe or device, neither rotated nor looked for
        )
        self._size_bytes = 0
        self._looked_mono = self._rotate_mono = float("-inf")
        self._should_reopen = False
        self._is_torn = False
        self._untold = 0
        self._trouble = ""
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
            self._say_what_is_missing()
        except OSError as error:
            self._lose(data, error)
            return
        while data:
            part = self._next_part(data)
            if self._identity:
                note(PublicPart(*self._identity, self._size_bytes, total - len(data), len(part), total))
            try:
                written = os.write(self._fd, part)
            except OSError as error:
                self._lose(data, error)
                return
            self._size_bytes += written
            self._is_torn = not part[:written].endswith(b"\n")
            data = data[written:]

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
        """Why lines are lost now, as one sentence; None while all is well."""
        return self._trouble or None

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
        elif self._fd >= 0 and self._identity and now - self._looked_mono >= LOOK_EVERY_S:
            self._looked_mono = now
            if self._identity != self._identity_of_path():
                self._let_go()
            else:
                self._size_bytes = os.fstat(self._fd).st_size  # logrotate's copytruncate makes it smaller
        if self._fd < 0:
            self._open()

    def _open(self) -> None:
        real = os.path.realpath(self._path)  # the path may be a link whose target is still to be made
        os.makedirs(os.path.dirname(real), exist_ok=True)
        # O_NONBLOCK: a fifo without a reader must not hold the thread; a regular file does not mind
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(real, flags | os.O_CREAT | os.O_EXCL, MODE)
            os.fchmod(self._fd, MODE)  # whatever the umask; a file that was there keeps its mode
        except FileExistsError:
            self._fd = os.open(real, flags | os.O_CREAT, MODE)
        seen = os.fstat(self._fd)
        self._size_bytes = seen.st_size
        self._identity = (seen.st_dev, seen.st_ino) if stat.S_ISREG(seen.st_mode) else None
        self._looked_mono = self._clock.mono()

    def _identity_of_path(self) -> tuple[int, int] | None:
        try:
            seen = os.stat(self._path)
        except FileNotFoundError:
            return None
        return seen.st_dev, seen.st_ino

    def _next_part(self, data: bytes) -> bytes:
        """As many whole lines as the file still takes; rotates when it takes none."""
        room = self._max_bytes - self._size_bytes
        if len(data) <= room or self._identity is None:
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
            self._notices.append(
                f"The engine log {self._path} cannot be rotated: {error.strerror}. "
                "It grows on; let the daemon write in its folder, or set ARASUL_LOG_FILE."
            )
            if self._fd < 0:
                raise
            return False
        return True

    def _lose(self, data: bytes, error: OSError) -> None:
        n_lines = data.count(b"\n")
        self.lost_lines += n_lines
        if not self._trouble:
            self._notices.append(
                f"The engine log {self._path} cannot be written: {error.strerror}. "
                "Its lines are missing there until that is cured; see /api/logs for the latest."
            )
        self._trouble = error.strerror or "unknown reason"
        self._untold += n_lines

    def _say_what_is_missing(self) -> None:
        if not self._trouble:
            return
        end_of_torn_line = "\n" if self._is_torn and self._size_bytes else ""
        note = (end_of_torn_line + NOTE.format(n=self._untold, why=self._trouble)).encode()
        written = os.write(self._fd, note)
        self._size_bytes += written
        self._is_torn = written < len(note)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._notices.append(
            f"The engine log {self._path} is written again; {self._untold} lines are missing in it."
        )
        self._trouble, self._untold = "", 0
