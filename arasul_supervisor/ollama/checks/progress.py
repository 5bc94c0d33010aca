"""How far a check is: bytes over the blobs it looks at, speed and the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.ollama.pace import Pace, eta_s

if TYPE_CHECKING:
    from collections.abc import Collection

    from arasul_supervisor.model_store.manifests import Layer


class CheckProgress:
    """Follows one check; pure but for what it remembers. `n_layers` grows when a repair looks again."""

    def __init__(self) -> None:
        self.n_layers = 0
        self.n_begun = 0
        self.layer: Layer | None = None
        self._total_bytes: int | None = None
        self._ended_bytes = 0
        self._layer_bytes = 0
        self._pace = Pace()

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
        self._pace.note(0, now_mono)

    def note(self, layer_bytes: int, now_mono: float) -> None:
        """So much of the blob was read so far."""
        assert self.layer is not None
        self._pace.note(layer_bytes - self._layer_bytes, now_mono)
        self._layer_bytes = layer_bytes

    def end(self, now_mono: float) -> None:
        """The blob is looked at, whatever of it had to be read."""
        assert self.layer is not None
        self._ended_bytes += self.layer.size_bytes
        self.layer, self._layer_bytes = None, 0
        self._pace.note(0, now_mono)

    def speed_bytes_per_s(self, now_mono: float) -> float | None:
        """Bytes read per second over the last 10 s; None until half a second of reading has been seen."""
        return None if self.layer is None else self._pace.speed_bytes_per_s(now_mono)

    def eta_s(self, now_mono: float) -> float | None:
        """Seconds until all blobs are looked at; None when that cannot be said."""
        return eta_s(self.speed_bytes_per_s(now_mono), self._total_bytes, self.completed_bytes)
