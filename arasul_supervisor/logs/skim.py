"""Reads on fast over what cannot be copied: of a flood only the lines that may mean something are kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.lines import Splitter
from arasul_supervisor.logs.meaning.prefilter import candidate_lines

if TYPE_CHECKING:
    from arasul_supervisor.logs.spool import SpoolReader

READ_BYTES: Final = 128 * 1024  # half a millisecond of the interpreter, then the loop may have it
BREATH_S: Final = 0.0002
KEPT_BYTES: Final = 1024 * 1024  # of one skip; a flood of nothing but such lines is cut there


def skim(spool: SpoolReader, beginning: bytes | None, end: int) -> tuple[bytes, int]:
    """What may mean something between the first unread byte and `end`; moves nothing. Blocks: some 150 MB/s.

    :param beginning: of the line that goes on there; None when the rest of it is to be skipped
    :returns: those lines, complete, and the number of the others, the one that `end` lies in among them
    :raises OSError: the spool cannot be read
    """
    splitter, kept = Splitter(), bytearray()
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
        n_lines += block.count(b"\n")
        for line_start, line_end in candidate_lines(block) if len(kept) < KEPT_BYTES else ():
            kept += block[line_start : line_end + 1]
            n_lines -= 1
    return bytes(kept), n_lines
