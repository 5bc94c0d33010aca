"""How far a check is: bytes over the blobs it looks at, speed and the time left."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from arasul_supervisor.model_store.manifests import Layer

WINDOW_S: Final = 10.0
SAMPLE_EVERY_S: Final = 0.25
MIN_SPAN_S: Final = 0.5


class CheckProgress:
    """Follows one check; pure but for what it remembers. `n_layers` grows when a repair looks again."""

    def __init__(self) -> None:
        self.n_layers = 0
        self.n_begun = 0
        self.layer: Layer | None = None
        self._total_bytes: int | None = None
        self._ended_bytes = 0
        self._layer_bytes = 0
        self._read_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all blobs to look at; None before they are known."""
        return self._total_bytes

    @property
    def completed_bytes(self) -> int:
        """Bytes of these that are looked at; never decreases."""
        return self._ended_bytes + self._layer_bytes

    def expect(self, layers: Collection[Layer]) -> None:
        """These will be looked at, after what was expected before."""
        self.n_layers += len(layers)
        self._total_bytes = (self._total_bytes or 0) + sum(layer.size_bytes for layer in layers)

    def begin(self, layer: Layer, now_mono: float) -> None:
        """The next blob."""
        self.layer = layer
        self.n_begun += 1
        self._sample(now_mono)

    def note(self, layer_bytes: int, now_mono: float) -> None:
        """So much of the blob was read so far."""
        assert self.layer is not None
        self._read_bytes += layer_bytes - self._layer_bytes
        self._layer_bytes = layer_bytes
        self._sample(now_mono)

    def end(self, now_mono: float) -> None:
        """The blob is looked at, whatever of it had to be read."""
        assert self.layer is not None
        self._ended_bytes += self.layer.size_bytes
        self.layer, self._layer_bytes = None, 0
        self._sample(now_mono)

    def speed_bytes_per_s(self, now_mono: float) -> float | None:
        """Bytes read per second over the last 10 s; None until half a second of reading has been seen."""
        self._drop_old(now_mono)
        if self.layer is None or not self._samples:
            return None
        since_mono, read_then = self._samples[0]
        if now_mono - since_mono < MIN_SPAN_S:
            return None
        return (self._read_bytes - read_then) / (now_mono - since_mono)

    def eta_s(self, now_mono: float) -> float | None:
        """Seconds until all blobs are looked at; None when that cannot be said."""
        speed = self.speed_bytes_per_s(now_mono)
        if not speed or self._total_bytes is None:
            return None
        return max(0, self._total_bytes - self.completed_bytes) / speed

    def _sample(self, now_mono: float) -> None:
        if not self._samples or now_mono - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append((now_mono, self._read_bytes))
        self._drop_old(now_mono)

    def _drop_old(self, now_mono: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now_mono - WINDOW_S:
            self._samples.popleft()
