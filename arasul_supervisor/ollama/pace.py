"""How fast the bytes of a job come, and what that says of the time left: pure but for what it remembers."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 10.0
SAMPLE_EVERY_S: Final = 0.25
MIN_SPAN_S: Final = 0.5


class Pace:
    """Follows a count of bytes that only grows."""

    def __init__(self) -> None:
        self._n_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, n_bytes: int, now_mono: float) -> None:
        """So many came since the last note."""
        self._n_bytes += n_bytes
        if not self._samples or now_mono - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append((now_mono, self._n_bytes))
        while len(self._samples) > 1 and self._samples[0][0] < now_mono - WINDOW_S:
            self._samples.popleft()

    def speed_bytes_per_s(self, now_mono: float) -> float | None:
        """Bytes per second over the last 10 s; None until half a second has been seen."""
        recent = [sample for sample in self._samples if sample[0] >= now_mono - WINDOW_S]
        if not recent:
            return 0.0 if self._samples else None
        since_mono, bytes_then = recent[0]
        span_s = now_mono - since_mono
        if span_s < MIN_SPAN_S:
            return None
        return (self._n_bytes - bytes_then) / span_s


def eta_s(speed_bytes_per_s: float | None, total_bytes: int | None, completed_bytes: int) -> float | None:
    """Seconds until all is complete; None when that cannot be said."""
    if not speed_bytes_per_s or total_bytes is None:
        return None
    return max(0, total_bytes - completed_bytes) / speed_bytes_per_s
