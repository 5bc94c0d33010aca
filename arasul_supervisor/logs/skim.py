"""Reads on fast over what cannot be copied: of a flood only the lines that mean something are kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.lines import LINE_LIMIT_BYTES, Splitter
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.meaning.screen import Between, screen

if TYPE_CHECKING:
    from arasul_supervisor.logs.spool import SpoolReader

READ_BYTES: Final = 128 * 1024  # half a millisecond of the interpreter, then the loop may have it
BREATH_S: Final = 0.0002
KEPT_BYTES: Final = 1024 * 1024  # of one skip; a flood of nothing but such lines is cut there


@dataclass(frozen=True, slots=True)
class Skimmed:
    """Complete lines that mean something, the number of the others, and whether the next ones are private."""

    kept: bytes
    n_lines: int
    is_private: bool


def skim(spool: SpoolReader, beginning: bytes | None, end: int) -> Skimmed:
    """Looks through what lies between the first unread byte and `end`; moves nothing. Blocks: some 150 MB/s.

    :param beginning: of the line that goes on there; None when the rest of it is to be skipped
    :returns: the line that `end` lies in is among the others
    :raises OSError: the spool cannot be read
    """
    splitter, kept, between = Splitter(needs_whole=is_candidate), _Kept(), Between()
    if beginning is None:
        splitter.skip_line()
    else:
        splitter.feed(beginning)
    n_lines, position = 1, spool.offset
    while position < end:
        chunk = spool.peek(min(READ_BYTES, end - position), start=position)
        if not chunk:
            break
        position += len(chunk)
        time.sleep(BREATH_S)
        block = splitter.feed(chunk)
        screened = screen(block, between)
        between, n_lines = screened.after, n_lines + screened.n_lines
        if screened.matches:
            lines = block.split(b"\n")
            for index, match in screened.matches.items():
                kept.add(lines[index] + b"\n", is_step=match.meaning.severity == "step")
    return Skimmed(kept.joined(), n_lines - kept.n_lines, between.is_private)


def behind_line(spool: SpoolReader, position: int) -> tuple[int, bool]:
    """The end of the line that a position lies in: another life that goes on there must not take its rest for a line.

    :returns: the place behind its newline, and True; the position itself, and False, when that line is too long
    """
    start = max(spool.offset, position - LINE_LIMIT_BYTES)
    newline = spool.peek(position - start, start=start).rfind(b"\n")
    return (start + newline + 1, True) if newline >= 0 else (position, False)


class _Kept:
    """Lines within a bound. The older steps of a healthy life go first: all that they tell is where it stands."""

    def __init__(self) -> None:
        self._lines: list[tuple[bytes, bool]] = []
        self._n_bytes = 0
        self._is_full = False

    @property
    def n_lines(self) -> int:
        """How many there are."""
        return len(self._lines)

    def add(self, line: bytes, *, is_step: bool) -> None:
        """Keeps it if there is room."""
        if self._is_full:
            return
        self._lines.append((line, is_step))
        self._n_bytes += len(line)
        if self._n_bytes > KEPT_BYTES:
            self._lines = [(told, False) for told, was_step in self._lines if not was_step]
            self._n_bytes = sum(len(told) for told, _ in self._lines)
            self._is_full = self._n_bytes > KEPT_BYTES // 2

    def joined(self) -> bytes:
        """All of them, in order."""
        return b"".join(line for line, _ in self._lines)
