"""When a pull that still says something stands still: pure but for what it remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arasul_supervisor.ollama.pulls.progress import DOWNLOADING
from arasul_supervisor.ollama.pulls.retry import RetryPolicy

if TYPE_CHECKING:
    from arasul_supervisor.ollama.pull_lines import PullLine


@dataclass(frozen=True, slots=True)
class PullLimits:
    """How long things may take.

    `stall_s`: without a new byte of a layer. Ollama 0.34.4 itself acts after 30 s, and begins the part anew from its
    last note, of up to 1 GB; when its client leaves before, it notes what it has (measured: 200 kB of 200 kB fetched
    again, against 0). Twice that before the first layer: a registry may think, or be silent for ever (§0.8).
    `verify_s`: without a line while a digest is computed over tens of GB. `call_s`: each small call around it.
    `part_notes_s`: what Ollama needs to write down its progress after the connection was closed (§0.9).
    `after_pause_s`: how long a paused pull waits before it looks whether the engine is ready.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    stall_s: float = 25.0
    verify_s: float = 3600.0
    call_s: float = 30.0
    part_notes_s: float = 0.2
    after_pause_s: float = 1.0


class StallWatch:
    """How long the next sign of progress may still take.

    A sign is a new status, a new layer, or more bytes of it; a step back, with which Ollama begins a part anew, is
    none, but what is fetched after it counts again: a part of 1 GB on a slow line takes longer than any limit to pass
    its old mark.
    """

    def __init__(self, limits: PullLimits, now_mono: float) -> None:
        self._limits = limits
        self._last: PullLine | None = None
        self._completed = 0
        self._sign_mono = now_mono

    @property
    def patience_s(self) -> float:
        """Seconds that this phase may pass without a sign."""
        if self._last is None or (self._last.digest is None and self._last.status.startswith(DOWNLOADING)):
            return 2 * self._limits.stall_s
        return self._limits.stall_s if self._last.digest is not None else self._limits.verify_s

    def note(self, line: PullLine, now_mono: float) -> None:
        """A line came."""
        last, self._last = self._last, line
        completed = line.completed or 0
        is_new = last is None or (line.status, line.digest) != (last.status, last.digest)
        if is_new or completed > self._completed:
            self._sign_mono = now_mono
        self._completed = completed

    def left_s(self, now_mono: float) -> float:
        """Seconds until it counts as stalled, never below 0."""
        return max(0.0, self._sign_mono + self.patience_s - now_mono)
