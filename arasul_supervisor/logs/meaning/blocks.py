"""Events of several lines: Go's panics and stacks, CUDA's error blocks, assertions of llama.cpp. Pure.

The first line decides (rules.py); what is gathered here are the lines after it, in which the cause is told. Another
process may write in between, so a line is taken by its shape and others are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from arasul_supervisor.logs.meaning.redaction import begins_private_block, redact

BEGINS: Final = frozenset({"panic", "handler_panic", "gpu_fault", "gpu_lost", "runner_asserted"})
GATHERED_LINES: Final = 11  # after the first
STRANGE_LINES: Final = 8  # in a row, then it was over
CONTINUES: Final = re.compile(
    r"\s|$"  # Go: tab and place of a frame; CUDA: two blanks and the statement
    r"|goroutine \d|created by |\[signal |runtime stack:|PC=|signal arrived|r\w{1,2} +0x"
    r"|[\w/-]+\.[^\s(]*\("  # Go: pkg.(*Type).Method(0xc000, …)
    r"|\S+:\d+: |\S+:\d+ \(0x"  # file:line: CUDA error; the frames of gin's recovery
    r"|runtime error: |[A-Z]+ /\S* HTTP/"  # gin's recovery: the error, the request
    r"|[^\s(]*\([^\s)]*\+0x[0-9a-f]+\) ?\[0x|\[?0x[0-9a-f]+"  # glibc's backtrace
    r"|#\d+ |\[New LWP|\[Thread |Thread \d"  # gdb's
)


@dataclass(frozen=True, slots=True)
class OpenBlock:
    """A block that may go on: how many lines it has, and how many strange ones came last."""

    n_gathered: int = 0
    n_strange: int = 0


def gather(
    block: bytes, start: int, opened: OpenBlock, *, stop: int
) -> tuple[tuple[str, ...], OpenBlock | None]:
    """The lines that go on with an event, redacted.

    :param block: complete lines
    :param start: where to go on in it
    :param stop: where the next event begins, or the end
    :returns: the lines, and the block when it may go on beyond `stop`
    """
    lines: list[str] = []
    n_gathered, n_strange = opened.n_gathered, opened.n_strange
    while n_gathered < GATHERED_LINES and n_strange < STRANGE_LINES:
        if start >= stop:
            return tuple(lines), OpenBlock(n_gathered, n_strange)
        end = block.index(b"\n", start)
        text = redact(block[start:end].decode(errors="replace"))
        if begins_private_block(text):
            break
        if not CONTINUES.match(text):
            n_strange += 1
        elif text.strip():
            lines.append(text)
            n_gathered, n_strange = n_gathered + 1, 0
        start = end + 1
    return tuple(lines), None
