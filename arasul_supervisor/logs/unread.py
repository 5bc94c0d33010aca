"""The end of a spool that nobody has read yet, looked at without moving anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.logs.lines import Splitter
from arasul_supervisor.logs.spool import SpoolReader

if TYPE_CHECKING:
    from pathlib import Path


def unread_of(spool: SpoolReader, beginning: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    """The unread lines of a followed spool, the last of them when they are many.

    :param beginning: of the line that goes on there
    :returns: complete lines, and whether none is left out before them
    :raises OSError: the spool cannot be read
    """
    size = spool.size_bytes()
    is_whole = size - spool.offset <= limit_bytes
    start = spool.offset if is_whole else size - limit_bytes
    return _lines_of(
        (beginning if is_whole else b"") + spool.peek(limit_bytes, start=start), is_whole=is_whole
    )


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
    splitter = Splitter()
    if not is_whole:
        splitter.skip_line()
    return splitter.feed(written) + splitter.end(), is_whole
