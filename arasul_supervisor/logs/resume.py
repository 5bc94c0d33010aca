"""Up to where a spool has been copied to the public log, noted so that a killed daemon goes on without loss or double.

Before each write to the public file a note of fixed size is put beside the spool: which raw bytes become which bytes of
which file. A write that was torn by SIGKILL shows in the file's size (facts/process.md §13a). The page cache keeps note
and file through our death; only a power cut can part them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOTE_SUFFIX: Final = ".note"
NOTE_BYTES: Final = 192  # eleven numbers of 16 digits; a file that is rewritten in place keeps its size


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a spool: the line that begins at `raw`, of which `flushed` bytes were shown before it had ended.

    `is_private`: it lies within text that nobody may see (1 or 0, for the note holds numbers only).
    """

    raw: int = 0
    flushed: int = 0
    is_private: int = 0


BEGINNING: Final = Position()


@dataclass(frozen=True, slots=True)
class PublicPart:
    """Bytes about to be appended to a public file.

    `done` bytes of the block of `total` stand in it or in an earlier file; `length` follow in the file (`device`,
    `inode`), which has `size` bytes before that.
    """

    device: int
    inode: int
    size: int
    done: int
    length: int
    total: int


NOWHERE: Final = PublicPart(0, 0, 0, 0, 0, 0)
"""Bytes that no later life can find in a file: given up, or written into a pipe."""


class SpoolNote:
    """The note beside one spool."""

    def __init__(self, spool: Path) -> None:
        self._path = note_path(spool)
        self._fd = -1
        self._after = BEGINNING

    def write(self, before: Position, after: Position, part: PublicPart) -> None:
        """Note what is about to be written.

        :raises OSError: the disk of the state folder is full or gone
        """
        self._after = after
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        numbers = (*astuple(before), *astuple(after), *astuple(part))
        os.pwrite(self._fd, " ".join(map(str, numbers)).ljust(NOTE_BYTES).encode(), 0)

    def begin_anew(self) -> None:
        """Note that the spool was emptied, and that all of it had been copied.

        :raises OSError: the disk of the state folder is full or gone
        """
        beginning = replace(self._after, raw=0, flushed=0)
        self.write(beginning, beginning, NOWHERE)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove the file: its spool is dealt with."""
        self.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def note_path(spool: Path) -> Path:
    """Where the note of a spool lies."""
    return spool.with_name(spool.name + NOTE_SUFFIX)


def resume_position(spool: Path, public_sizes: Mapping[tuple[int, int], int]) -> tuple[Position, int]:
    """Where to go on in a spool that another life of the daemon left.

    :param public_sizes: the size of each public file that may hold its lines, by device and inode
    :returns: the position, and how many bytes of what follows from there stand in the public log already
    """
    noted = _read(note_path(spool))
    if noted is None:
        return BEGINNING, 0
    before, after, part = noted
    position, written = after, 0
    size = public_sizes.get((part.device, part.inode))
    # rotated away or truncated by others since: that came after the write, which follows its note at once
    if size is not None and size >= part.size:
        done = part.done + min(size - part.size, part.length)
        if done < part.total:
            position, written = before, done
    if _size_bytes(spool) < position.raw:  # emptied since
        return replace(position, raw=0, flushed=0), 0
    return position, written


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> tuple[Position, Position, PublicPart] | None:
    try:
        numbers = [int(word) for word in path.read_bytes().split()]
        return Position(*numbers[:3]), Position(*numbers[3:6]), PublicPart(*numbers[6:])
    except (OSError, ValueError, TypeError):  # none, or of another version of this program
        return None
