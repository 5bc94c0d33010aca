"""One finding: what befell the engine, in whose words; pure values and what makes one of two."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.logs.meaning.outcomes import Severity

KEPT_LINES: Final = 12
LINE_CHARS: Final = 2_000
VAGUE: Final = ("panic", "runner_died", "load_failed")
"""Outcomes that say little more than that it failed, the vaguest first: they give way to the reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One outcome of one subject in one generation: how often it befell, when last, and what the log said of it."""

    outcome: str
    sentence: str
    last_mono: float
    last_at: float
    count: int = 1
    subject: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    is_cured: bool = False

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return OUTCOMES[self.outcome].severity

    def counts_at(self, mono: float) -> bool:
        """True while health has to speak of it."""
        return not self.is_cured and mono - self.last_mono <= OUTCOMES[self.outcome].counts_s


def says_more(said: Finding, known: Finding) -> bool:
    """True when `said` names the event better. That the client has left explains what follows, not what was before."""
    if "load_abandoned" in (said.outcome, known.outcome):
        return False
    return _rank(said.outcome) > _rank(known.outcome)


def _rank(outcome: str) -> int:
    return VAGUE.index(outcome) if outcome in VAGUE else len(VAGUE)


def in_other_words(known: Finding, said: Finding) -> Finding:
    """The same event by its better name."""
    if known.outcome == "panic" and said.outcome == "runner_died":
        said = replace(
            of_a_runner(known), last_mono=said.last_mono, last_at=said.last_at, subject=said.subject
        )
    return replace(said, lines=kept_lines((*known.lines, *said.lines)))


def of_a_runner(panic: Finding) -> Finding:
    """≤ 0.29 runners are Go programs too: that the server speaks on tells whose panic it was."""
    why = panic.fields.get("why", "?")
    return replace(
        panic,
        outcome="runner_died",
        sentence=f"A model runner crashed ({why}); the next request starts another.",
    )


def kept_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line[:LINE_CHARS] for line in lines[:KEPT_LINES])
