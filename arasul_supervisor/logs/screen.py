"""Looks through a block of lines once: what it means, and what of it may be shown; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.blocks import BEGINS, OpenBlock, gather
from arasul_supervisor.logs.meaning import classify, is_logged
from arasul_supervisor.logs.prefilter import candidate_lines
from arasul_supervisor.logs.redaction import REDACTED, begins_private_block, redact
from arasul_supervisor.logs.rules import TEMPLATE_BEGINS, TEMPLATE_ENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.logs.meaning import Match

# After these a runner that died amid its template prints no more of it.
BEYOND_TEMPLATE: Final = frozenset(
    {"loading", "loaded", "load_failed", "runner_died", "load_abandoned", "load_stalled"}
)
PRIVATE_LINE: Final = REDACTED.encode() + b"\n"
# What a logger writes, never a model: here the private text has ended.
LOGGED: Final = re.compile(
    rb"^(?:time=\d{4}-\d\d-\d\dT\S+ level=|\[GIN\] \d{4}/|(?:srv|slot|que|res|cmn) +\w+: |common_chat_peg_parse: )",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Between:
    """What a block of lines leaves to the next one: text that nobody may see, a model's, or an event that goes on."""

    is_private: bool = False
    is_template: bool = False
    opened: OpenBlock | None = None


@dataclass(frozen=True, slots=True)
class Screened:
    """A block of lines as it may be shown, with the meaning of some of them by their index in it.

    `told` are the lines that go on with an event, by the index of its first; those of an event of the block before
    stand under -1.
    """

    data: bytes
    n_lines: int
    matches: Mapping[int, Match]
    told: Mapping[int, tuple[str, ...]]
    after: Between


def screen(block: bytes, before: Between = Between()) -> Screened:
    """Redacts and classifies a block of complete lines. The number of lines stays what it was.

    :param before: how the block before ended
    :returns: the same block (the very object, when nothing had to be hidden)
    """
    parts: list[bytes] = []
    matches: dict[int, Match] = {}
    told: dict[int, tuple[str, ...]] = {}
    shown_to = n_before = counted_to = 0
    is_private, opened = before.is_private, None if before.is_private else before.opened
    is_template, template_at = before.is_template, 0
    event, event_end = -1, 0
    if is_private:
        shown_to, is_private = _hide(block, 0, parts)
    for start, end in candidate_lines(block):
        if start < shown_to:
            continue
        raw = block[start:end]
        text = raw.decode(errors="surrogateescape")  # what is no UTF-8 comes out as it went in
        shown, begins_private = redact(text), begins_private_block(text)
        n_before += block.count(b"\n", counted_to, start)
        counted_to = start
        if is_template:
            is_template = TEMPLATE_ENDS.search(block, template_at, start) is None
            template_at = start
        match = None if is_template and not is_logged(shown) else classify(shown)
        if match:
            matches[n_before] = match
            is_template = is_template and match.outcome not in BEYOND_TEMPLATE
        elif TEMPLATE_BEGINS.match(shown):
            is_template, template_at = True, start
        if shown != text or begins_private:
            parts += (block[shown_to:start], shown.encode(errors="surrogateescape"), b"\n")
            shown_to = min(end + 1, len(block))
        if opened and (match or begins_private):
            told[event], _ = gather(block, event_end, opened, stop=start)
            opened = None
        if match and match.outcome in BEGINS:
            event, event_end, opened = n_before, end + 1, OpenBlock()
        if begins_private:
            shown_to, is_private = _hide(block, shown_to, parts)
    if opened:
        told[event], opened = gather(block, event_end, opened, stop=len(block))
    if is_template:
        is_template = TEMPLATE_ENDS.search(block, template_at) is None
    data = b"".join((*parts, block[shown_to:])) if parts else block
    return Screened(data, block.count(b"\n"), matches, told, Between(is_private, is_template, opened))


def _hide(block: bytes, start: int, parts: list[bytes]) -> tuple[int, bool]:
    logged = LOGGED.search(block, start)
    end = logged.start() if logged else len(block)
    parts.append(PRIVATE_LINE * block.count(b"\n", start, end))
    return end, logged is None
