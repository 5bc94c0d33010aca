"""Looks through a block of lines once: what it means, and what of it may be shown; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.blocks import BEGINS, OpenBlock, gather
from arasul_supervisor.logs.meaning.classify import classify, is_logged
from arasul_supervisor.logs.meaning.prefilter import candidate_lines
from arasul_supervisor.logs.meaning.redaction import REDACTED, begins_private_block, redact
from arasul_supervisor.logs.meaning.rules import TEMPLATE_BEGINS, TEMPLATE_ENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.logs.meaning.classify import Match

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

    `lines` are the texts of what means something: the line itself and those that go on with it, by the same index.
    Those that go on with the last event of the block before stand under -1.
    """

    data: bytes
    n_lines: int
    matches: Mapping[int, Match]
    lines: Mapping[int, tuple[str, ...]]
    after: Between


def screen(block: bytes, before: Between = Between()) -> Screened:
    """Redacts and classifies a block of complete lines. The number of lines stays what it was.

    :param before: how the block before ended
    :returns: the same block (the very object, when nothing had to be hidden)
    """
    screening = _Screening(block, before)
    for start, end in candidate_lines(block):
        screening.look(start, end)
    return screening.result()


class _Screening:
    """One block on its way from candidate to candidate."""

    def __init__(self, block: bytes, before: Between) -> None:
        self._block = block
        self._parts: list[bytes] = []  # of what is shown, as far as it differs from the block
        self._shown_to = 0
        self._n_lines = self._counted_to = 0
        self._matches: dict[int, Match] = {}
        self._lines: dict[int, tuple[str, ...]] = {}
        self._is_private = before.is_private
        self._is_template, self._template_at = before.is_template, 0
        self._opened = None if before.is_private else before.opened
        self._event, self._event_end = -1, 0
        if before.is_private:
            self._hide()

    def look(self, start: int, end: int) -> None:
        """Takes a candidate line in; `end` is the place of its newline."""
        if start < self._shown_to:  # hidden
            return
        raw = self._block[start:end]
        text = raw.decode(errors="surrogateescape")  # what is no UTF-8 comes out as it went in
        shown, begins_private = redact(text), begins_private_block(text)
        self._n_lines += self._block.count(b"\n", self._counted_to, start)
        self._counted_to = start
        match = self._meaning(_readable(shown), start)
        if match or begins_private:
            self._end_event(start)
        if match:
            self._begin(match, shown, end)
        if shown != text or begins_private:
            self._show(start, end, shown.encode(errors="surrogateescape"))
        if begins_private:
            self._hide()

    def result(self) -> Screened:
        """All that was found, once every candidate was looked at."""
        if self._opened:
            lines, self._opened = gather(self._block, self._event_end, self._opened, stop=len(self._block))
            self._add(lines)
        if self._is_template:
            self._is_template = TEMPLATE_ENDS.search(self._block, self._template_at) is None
        data = b"".join((*self._parts, self._block[self._shown_to :])) if self._parts else self._block
        after = Between(self._is_private, self._is_template, self._opened)
        n_lines = self._n_lines + self._block.count(b"\n", self._counted_to)
        return Screened(data, n_lines, self._matches, self._lines, after)

    def _meaning(self, shown: str, start: int) -> Match | None:
        """What the line says; within the example of a template only Ollama's own loggers are heard."""
        if self._is_template:
            self._is_template = TEMPLATE_ENDS.search(self._block, self._template_at, start) is None
            self._template_at = start
        match = None if self._is_template and not is_logged(shown) else classify(shown)
        if match and match.outcome in BEYOND_TEMPLATE:
            self._is_template = False
        elif TEMPLATE_BEGINS.match(shown):
            self._is_template, self._template_at = True, start
        return match

    def _begin(self, match: Match, shown: str, end: int) -> None:
        self._matches[self._n_lines] = match
        self._lines[self._n_lines] = (_readable(shown),)
        if match.outcome in BEGINS:
            self._event, self._event_end, self._opened = self._n_lines, end + 1, OpenBlock()

    def _end_event(self, stop: int) -> None:
        if self._opened:
            lines, _ = gather(self._block, self._event_end, self._opened, stop=stop)
            self._add(lines)
            self._opened = None

    def _add(self, lines: tuple[str, ...]) -> None:
        self._lines[self._event] = (*self._lines.get(self._event, ()), *lines)

    def _show(self, start: int, end: int, shown: bytes) -> None:
        self._parts += (self._block[self._shown_to : start], shown, b"\n")
        self._shown_to = min(end + 1, len(self._block))

    def _hide(self) -> None:
        """Hides all up to the next line that a logger wrote."""
        logged = LOGGED.search(self._block, self._shown_to)
        end = logged.start() if logged else len(self._block)
        self._parts.append(PRIVATE_LINE * self._block.count(b"\n", self._shown_to, end))
        self._shown_to, self._is_private = end, logged is None


def _readable(text: str) -> str:
    """The text with U+FFFD for each byte that is no UTF-8: it goes into sentences, and those into JSON."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")
