"""Looks through a block of lines once: what it means, and what of it may be shown; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.prefilter import candidate_lines
from arasul_supervisor.logs.redaction import REDACTED, begins_private_block, redact
from arasul_supervisor.logs.rules import classify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.logs.rules import Match

PRIVATE_LINE: Final = REDACTED.encode() + b"\n"
# What a logger writes, never a model: here the private text has ended.
LOGGED: Final = re.compile(
    rb"^(?:time=\d{4}-\d\d-\d\dT\S+ level=|\[GIN\] \d{4}/|(?:srv|slot|que|res|cmn) +\w+: |common_chat_peg_parse: )",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Screened:
    """A block of lines as it may be shown, with the meaning of some of them by their index in it."""

    data: bytes
    n_lines: int
    matches: Mapping[int, Match]
    is_private: bool


def screen(block: bytes, *, is_private: bool) -> Screened:
    """Redacts and classifies a block of complete lines. The number of lines stays what it was.

    :param is_private: how the block before ended: in the middle of text that nobody may see
    :returns: the same block (the very object, when nothing had to be hidden)
    """
    parts: list[bytes] = []
    matches: dict[int, Match] = {}
    shown_to = n_before = counted_to = 0
    if is_private:
        shown_to, is_private = _hide(block, 0, parts)
    for start, end in candidate_lines(block):
        if start < shown_to:
            continue
        raw = block[start:end]
        text = raw.decode(errors="surrogateescape")  # what is no UTF-8 comes out as it went in
        shown = redact(text)
        n_before += block.count(b"\n", counted_to, start)
        counted_to = start
        match = classify(shown)
        if match:
            matches[n_before] = match
        if shown != text:
            parts += (block[shown_to:start], shown.encode(errors="surrogateescape"), b"\n")
            shown_to = min(end + 1, len(block))
        if begins_private_block(text):
            shown_to, is_private = _hide(block, shown_to, parts)
    data = b"".join((*parts, block[shown_to:])) if parts else block
    return Screened(data, block.count(b"\n"), matches, is_private)


def _hide(block: bytes, start: int, parts: list[bytes]) -> tuple[int, bool]:
    logged = LOGGED.search(block, start)
    end = logged.start() if logged else len(block)
    parts.append(PRIVATE_LINE * block.count(b"\n", start, end))
    return end, logged is None
