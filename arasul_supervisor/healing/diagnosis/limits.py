"""How long something must last before it counts. The defaults are those of the settings of the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PERIOD_S: Final = 2.0
_LOOKS_A_LIMIT: Final = 5
_QUESTIONS_A_LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """All in watched seconds.

    `stuck_s`: facts/ollama.md §7, notes: a prompt moves in steps that take several seconds on a weak board.
    `silent_s`: three questions of five seconds (§7 rows 2, 9). `load_stuck_s`: Ollama itself waits 300 s.
    """

    stuck_s: float = 60.0
    silent_s: float = 15.0
    load_stuck_s: float = 120.0
    low_memory_s: float = 30.0

    @property
    def period_s(self) -> float:
        """From one look to the next."""
        return min(PERIOD_S, min(self.stuck_s, self.silent_s, self.load_stuck_s) / _LOOKS_A_LIMIT)

    @property
    def question_s(self) -> float:
        """How long a runner may take to answer a question; one under full load took 10 ms (§0.5)."""
        return min(2.0, self.silent_s / _QUESTIONS_A_LIMIT)

    @property
    def ask_idle_every_s(self) -> float:
        """How often a runner is asked that nobody else asks anything."""
        return min(5.0, self.silent_s / _QUESTIONS_A_LIMIT)
