"""The end of a spool that nobody has read yet, looked at without moving anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.logs.lines import Splitter
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.spool import SpoolReader

if TYPE_CHECKING:
    from pathlib import Path


def unread_of(spool: SpoolReader, beginning: bytes | None, limit_bytes: int) -> tuple[bytes, bool]:
    """The unread lines of a followed spool, the last of them when they are many.

    :param beginning: of the line that goes on there; None when nobody may see the rest of it
    :returns: complete lines, and whether none is left out before them
    :raises OSError: the spool cannot be read
    """
    size = spool.size_bytes()
    if beginning is None or size - spool.offset > limit_bytes:
        start = max(spool.offset, size - limit_bytes)
        return _lines_of(spool.peek(limit_bytes, start=start), is_whole=False)
    return _lines_of(beginning + spool.peek(limit_bytes), is_whole=True)


def written_to(path: Path, limit_bytes: int) -> tuple[bytes, bool]:
    """The last lines of a spool that is not followed yet.

    :returns: complete lines, and whether they are all
    :raises OSError: the spool cannot be read
    """
    reader = SpoolReader(path)
    try:
        return unread_of(reader, b"", limit_bytes)
    finally:
        reader.close()


def _lines_of(written: bytes, *, is_whole: bool) -> tuple[bytes, bool]:
    """The lines of a piece of a spool; its first is left out when it may lack its beginning."""
    splitter = Splitter(needs_whole=is_candidate)
    if not is_whole:
        splitter.skip_line()
    return splitter.feed(written) + splitter.end(), is_whole
