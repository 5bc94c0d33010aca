"""The older files of the public log: `.1` as it was written, `.2.gz` and on compressed (logrotate: delaycompress).

`.1` stays plain for whoever still reads it, and because a killed daemon looks there for its last lines (resume.py).
"""

from __future__ import annotations

import gzip
import os
import threading
import time
from contextlib import suppress
from typing import Final

FIRST_COMPRESSED: Final = 2
_LEVEL: Final = 6
_CHUNK_BYTES: Final = 256 * 1024
# As many times as long as a chunk took (6 ms) nothing is done after it: a tenth of a core in all. A low priority is no
# way: in a flood nice 19 still took 23 % of the daemon's core, and a thread that hardly runs holds up the loop whenever
# it holds the interpreter.
_BREATHS: Final = 9


class Rotation:
    """Moves files on by rename, in the caller's thread; compresses in one of its own, which nobody waits for."""

    def __init__(self, keep: int) -> None:
        """Keep so many older files."""
        self._keep = keep
        self._renaming = threading.Lock()  # a file may be moved on while it is being compressed
        self._starting = threading.Lock()
        self._compressing: threading.Thread | None = None
        self._is_due = self._is_closed = False

    def rotate(self, path: str) -> None:
        """Move the file and the older ones on; the oldest goes.

        :raises OSError: a file cannot be moved; none is lost then
        """
        with self._renaming:
            if not self._keep:
                os.unlink(path)
                return
            for ending in ("", ".gz"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}.{self._keep}{ending}")
            for number in range(self._keep - 1, 0, -1):
                for ending in ("", ".gz"):
                    with suppress(FileNotFoundError):
                        os.replace(f"{path}.{number}{ending}", f"{path}.{number + 1}{ending}")
            os.replace(path, f"{path}.1")
        if self._keep >= FIRST_COMPRESSED:
            with self._starting:
                self._is_due = True
                if self._compressing is None:
                    # a daemon thread: the end of the program does not wait for it, the next rotation does it anew
                    thread = threading.Thread(
                        target=self._run, args=(path,), name="log-compress", daemon=True
                    )
                    with suppress(RuntimeError):  # no thread to be had (a limit of pids): the same
                        thread.start()
                        self._compressing = thread

    def wait(self) -> None:
        """Return when nothing is left to compress."""
        while (thread := self._compressing) is not None:
            thread.join()

    def close(self) -> None:
        """Begin no further file."""
        self._is_closed = True

    def _run(self, path: str) -> None:
        while True:
            with self._starting:
                if not self._is_due:
                    self._compressing = None
                    return
                self._is_due = False
            for number in range(self._keep, FIRST_COMPRESSED - 1, -1):
                if self._is_closed:
                    break
                with suppress(OSError):  # gone, or the disk is full: it stays plain, and is tried again
                    self._compress(path, f"{path}.{number}")

    def _compress(self, path: str, plain: str) -> None:
        part = f"{path}.gz.part"
        try:
            with open(plain, "rb") as source:
                seen = os.fstat(source.fileno())
                with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
                    os.fchmod(target.fileno(), seen.st_mode & 0o7777)
                    with gzip.GzipFile("", "wb", _LEVEL, target, seen.st_mtime) as packed:
                        while chunk := source.read(_CHUNK_BYTES):
                            began_s = time.monotonic()
                            packed.write(chunk)
                            time.sleep(_BREATHS * (time.monotonic() - began_s))
            with self._renaming:
                for number in range(FIRST_COMPRESSED, self._keep + 1):
                    with suppress(FileNotFoundError):
                        if os.path.samestat(os.stat(f"{path}.{number}"), seen):
                            os.replace(part, f"{path}.{number}.gz")
                            os.unlink(f"{path}.{number}")
                            return
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
