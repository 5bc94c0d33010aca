"""Collects what the rules found, per generation of the engine; a plain value store, told the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from arasul_supervisor.logs.rules import Match

KEPT_GENERATIONS: Final = 16
TEXT_LIMIT: Final = 2_000
VERDICTS: Final = frozenset({"load_failed", "load_stalled", "out_of_memory", "runner_died"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One outcome of one generation: how often it was seen, when last, and the last line that said so."""

    outcome: str
    severity: Literal["warning", "error"]
    sentence: str
    count: int
    last_mono: float
    last_at: float
    text: str


class Findings:
    """The outcomes of one generation. Candidates wait for a verdict; a load that works out clears them."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}
        self._candidate: Finding | None = None
        self.marks: set[str] = set()

    def add(self, match: Match, *, mono: float, at: float, text: str) -> None:
        """Takes one matched line in."""
        if match.severity == "info":
            self.marks.add(match.outcome)
            if match.outcome == "loaded":
                self._candidate = None
            return
        severity: Literal["warning", "error"] = "warning" if match.severity == "warning" else "error"
        finding = Finding(match.outcome, severity, match.sentence, 1, mono, at, text[:TEXT_LIMIT])
        if match.severity == "candidate":
            self._candidate = finding
            return
        if match.outcome in VERDICTS:
            if self._candidate and self._candidate.outcome != match.outcome:
                self._count(replace(self._candidate, last_mono=mono, last_at=at))
            self._candidate = None
        self._count(finding)

    def newest_first(self) -> tuple[Finding, ...]:
        """All that counts, the latest first."""
        return tuple(sorted(self._found.values(), key=lambda finding: finding.last_mono, reverse=True))

    def _count(self, finding: Finding) -> None:
        before = self._found.get(finding.outcome)
        self._found[finding.outcome] = replace(finding, count=before.count + 1) if before else finding
