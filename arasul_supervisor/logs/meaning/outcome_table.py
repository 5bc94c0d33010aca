"""The table of outcomes as people read it; `python -m` this module prints docs/outcomes.md."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.outcomes import OUTCOMES
from arasul_supervisor.logs.meaning.rules import GIN_RULES, RAW_RULES, SLOG_RULES

if TYPE_CHECKING:
    from arasul_supervisor.logs.meaning.outcomes import Outcome

INTRODUCTION: Final = """# What the engine's log tells

Printed from `outcomes.py` and `rules.py` of `arasul_supervisor/logs/meaning`; a test fails when they differ. Write it
anew with `python -m arasul_supervisor.logs.meaning.outcome_table > docs/outcomes.md`.

Each line of Ollama's log that means something has one of these outcomes: `GET /api/logs?outcome=load_failed`,
`arasul-supervisor logs --outcome load_failed`, `"outcome"` in the JSON lines on stdout. The words "error" or "fatal" in
a line decide nothing. All lines of one fault are one event; `/health` tells the worst event that still counts, with its
outcome, its age and how often it befell this engine. A new start of the engine begins with none.

An `error` makes `/health` degraded while it counts, a `warning` is shown there and changes nothing, `info` and `step`
are in the log only. A fault of a model is *cured* when the same model is loaded well.

Some faults have no line: a full disk of the models is seen by the daemon within five seconds (`disk_full` in `/health`
and in the daemon's log). Of a runner that has died Ollama writes at the next request for its model, and only then.
"""
STEP: Final = "a step of a healthy life"
OTHERS: Final = {
    "runner_oom_killed": "The kernel killed a model runner for want of memory (seen in the cgroup's counters).",
    "log_unwritable": "The log cannot be written (seen by the daemon).",
    "log_unreadable": "The engine's raw log cannot be read (seen by the daemon).",
}


def document() -> str:
    """The whole page."""
    rows = [f"| `{outcome.name}` | {_weight(outcome)} | {_what(outcome)} |" for outcome in OUTCOMES.values()]
    return "\n".join((INTRODUCTION, "| outcome | counts | what is said |", "|---|---|---|", *rows)) + "\n"


def _weight(outcome: Outcome) -> str:
    if outcome.severity in ("step", "info"):
        return outcome.severity
    if math.isinf(outcome.counts_s):
        how_long = "as long as this engine lives"
    else:
        how_long = f"{outcome.counts_s / 60:.0f} min"
    return f"{outcome.severity}, {how_long}{', or until cured' if outcome.is_cured else ''}"


def _what(outcome: Outcome) -> str:
    if outcome.severity == "step":
        return STEP
    said = [rule.sentence for rule in (*RAW_RULES, *SLOG_RULES, *GIN_RULES) if rule.outcome == outcome.name]
    return re.sub(r"\{\w+\}", "…", said[0] if said else OTHERS[outcome.name])


if __name__ == "__main__":
    sys.stdout.write(document())
