"""Reads one line of Ollama's log: which outcome it tells, in what words. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.levels import without_colours
from arasul_supervisor.logs.meaning.outcomes import OUTCOMES
from arasul_supervisor.logs.meaning.rules import (
    CLIENT_FIELDS,
    FALSE_ALARMS,
    GIN_RULES,
    METADATA,
    RAW_RULES,
    SLOG_RULES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.logs.meaning.outcomes import Outcome
    from arasul_supervisor.logs.meaning.rules import Rule

SLOG: Final = re.compile(r"time=\S+ level=\S+ source=\S+ msg=")
LOOKED_AT_CHARS: Final = 8 * 1024  # of a longer line; a client can write long ones
FIELD_CHARS: Final = 240
# The reasons of a start that fails, and those to fall back on.
LAST_RESORTS: Final = ("start_failed", "panic")
START_OUTCOMES: Final = frozenset(
    {"disk_full", "store_unwritable"} | {name for name, outcome in OUTCOMES.items() if outcome.is_start}
).difference(LAST_RESORTS)


@dataclass(frozen=True, slots=True)
class Match:
    """What one line says. `waits`: it counts only beside another; `ends`: it is the last word on a load."""

    outcome: str
    sentence: str
    fields: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False
    ends: bool = False

    @property
    def is_telling(self) -> bool:
        """True when it tells of more than a step of a healthy life, or a reason that waits."""
        return not self.waits and self.meaning.severity != "step"

    @property
    def meaning(self) -> Outcome:
        """The row of the table of outcomes."""
        return OUTCOMES[self.outcome]


def is_logged(text: str) -> bool:
    """True for a line of Ollama's own loggers, false for what its runners print."""
    return text.startswith("[GIN] ") or SLOG.match(text) is not None


def classify(text: str) -> Match | None:
    """What this line says, or None for a line that says nothing of note."""
    text = without_colours(text[:LOOKED_AT_CHARS])
    if text.startswith(METADATA):
        return None
    slog = SLOG.match(text)
    if slog:
        return _first_match(SLOG_RULES, CLIENT_FIELDS.sub("", text), slog.end())
    return _first_match(GIN_RULES if text.startswith("[GIN] ") else RAW_RULES, text, 0)


def explain_exit(lines: Sequence[str]) -> tuple[str, str] | None:
    """Why a start failed, as its last lines say it: outcome and a sentence with what to do; None when they do not.

    :param lines: the last lines of the generation, oldest first
    """
    said = [match for line in reversed(lines) if (match := classify(line))]
    for wanted in (START_OUTCOMES, *({outcome} for outcome in LAST_RESORTS)):
        for match in said:
            if match.outcome in wanted:
                return match.outcome, match.sentence
    return None


def _first_match(rules: Sequence[Rule], text: str, start: int) -> Match | None:
    for rule in rules:
        found = rule.pattern.match(text, start)
        if found:
            if rule.sentence and any(alarm.search(text) for alarm in FALSE_ALARMS):  # a step needs no alarm
                return None
            fields = {name: _shown(name, value) for name, value in found.groupdict().items() if value}
            return Match(
                rule.outcome, rule.sentence.format_map(_Known(fields)), fields, rule.waits, rule.ends
            )
    return None


class _Known(dict[str, str]):
    """The fields of a sentence; what the line did not give reads `?`."""

    def __missing__(self, name: str) -> str:
        return "?"


def _shown(name: str, value: str) -> str:
    """A value as a person reads it: of a path to a blob its name, of Go's quoted text the first line unescaped."""
    if name == "model":
        value = value.rpartition("/blobs/")[2]
    first_line = value.partition("\\n")[0].replace('\\"', '"').strip()
    return first_line if len(first_line) <= FIELD_CHARS else f"{first_line[:FIELD_CHARS]}…"
