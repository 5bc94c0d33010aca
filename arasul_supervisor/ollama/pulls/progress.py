"""How far a pull is: sums over its layers, speed and the time left."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from arasul_supervisor.ollama.pulls.lines import PullLine

WINDOW_S: Final = 10.0
SAMPLE_EVERY_S: Final = 0.25
MIN_SPAN_S: Final = 0.5
MAX_LAYERS: Final = 256
# The start of every status up to the last byte: `pulling manifest`, `pulling cb823f5d9f88`.
DOWNLOADING: Final = "pulling "


class PullProgress:
    """Follows the lines of one pull; pure but for what it remembers.

    Layers become known one after another, so `total_bytes` grows while a pull runs. `completed_bytes` may step
    back when a part is fetched anew.
    """

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._fetched_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()
        self.best_bytes = 0

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all layers known so far; None before the first."""
        return sum(total for total, _ in self._layers.values()) if self._layers else None

    @property
    def completed_bytes(self) -> int:
        """Bytes of these that are on disk."""
        return sum(completed for _, completed in self._layers.values())

    @property
    def digests(self) -> tuple[str, ...]:
        """The layers seen, in their order."""
        return tuple(self._layers)

    def note(self, line: PullLine, now_mono: float) -> None:
        """Takes in one line.

        The last figure of a layer may be missing (Ollama writes one every 60 ms); when Ollama goes on to verify what
        it fetched, all layers are complete.
        """
        if line.digest is None:
            if not line.status.startswith(DOWNLOADING):
                self._layers = {digest: (total, total) for digest, (total, _) in self._layers.items()}
            return
        if line.digest not in self._layers and len(self._layers) >= MAX_LAYERS:
            return
        before = self._layers.get(line.digest)
        total, completed = line.total or 0, line.completed or 0
        self._layers[line.digest] = (total, completed)
        # What a layer has at first sight was there before: no speed of ours.
        self._fetched_bytes += max(0, completed - before[1]) if before is not None else 0
        self.best_bytes = max(self.best_bytes, self.completed_bytes)
        self._sample(now_mono)

    def speed_bytes_per_s(self, now_mono: float) -> float | None:
        """Bytes per second over the last 10 s; None until half a second has been seen."""
        recent = [sample for sample in self._samples if sample[0] >= now_mono - WINDOW_S]
        if not recent:
            return 0.0 if self._samples else None
        since_mono, fetched_then = recent[0]
        span_s = now_mono - since_mono
        if span_s < MIN_SPAN_S:
            return None
        return (self._fetched_bytes - fetched_then) / span_s

    def eta_s(self, now_mono: float) -> float | None:
        """Seconds until the layers known so far are complete; None when that cannot be said."""
        speed = self.speed_bytes_per_s(now_mono)
        if not speed or self.total_bytes is None:
            return None
        return max(0, self.total_bytes - self.completed_bytes) / speed

    def _sample(self, now_mono: float) -> None:
        if not self._samples or now_mono - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append((now_mono, self._fetched_bytes))
        while len(self._samples) > 1 and self._samples[0][0] < now_mono - WINDOW_S:
            self._samples.popleft()
