"""One incident: what happened to what, what showed it, what was done about it, and whether that helped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

MAX_TAIL_LINES: Final = 20
# A line of the engine may have 64 KiB; with 20 of these, 200 incidents fill the 4 MiB that are kept of them.
MAX_TAIL_LINE_CHARS: Final = 1000
MAX_STEPS: Final = 50

Witnesses = Mapping[str, int | float | str | None]


class Result(str, Enum):
    """What became of an incident."""

    OPEN = "open"
    CURED = "cured"
    RECOVERED = "recovered"  # it came back by itself
    FAILED = "failed"
    GAVE_UP = "gave_up"
    OBSERVED = "observed"  # ARASUL_HEAL=observe: `action` is what would have been done
    NOTED = "noted"  # there was nothing to be done
    UNKNOWN = "unknown"  # the daemon ended before it knew


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done. `at` in epoch seconds; `action` is a word of `Cure`."""

    at: float
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as it is kept and shown.

    `kind`, `action`, `result` are words of `Kind`, `Cure`, `Result`; plain text here, so that the record of a newer
    daemon is read too. `_at` are epoch seconds. `what`, `evidence`, `detail` are sentences, `detail` about the result.
    `action` is the last cure that was tried. `ended_at` is None while it is open, and where nobody saw the end.
    `count`: how many identical ones it stands for, the last at `last_at`. `log_tail` is redacted.
    """

    id: str
    kind: str
    at: float
    what: str
    evidence: str
    action: str
    last_at: float
    result: str = Result.OPEN.value
    detail: str = ""
    model: str | None = None
    generation: int | None = None
    downtime_s: float | None = None
    count: int = 1
    ended_at: float | None = None
    steps: tuple[Step, ...] = ()
    log_tail: tuple[str, ...] = ()
    witnesses_before: Witnesses = field(default_factory=dict)
    witnesses_after: Witnesses = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """True until it is known what became of it."""
        return self.result == Result.OPEN.value


def order_of(incident_id: str) -> tuple[str, int]:
    """What ids are sorted by, oldest first: `20261129T081203Z-10` comes after `20261129T081203Z-9`."""
    stamp, _, number = incident_id.partition("-")
    return stamp, int(number)
