"""How far a pull is: sums over its layers, speed and the time left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.manifests import DIGEST, Layer
from arasul_supervisor.ollama.pace import Pace, eta_s
from arasul_supervisor.ollama.pulls.order import JobFigures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arasul_supervisor.model_store.parts import LayerOnDisk
    from arasul_supervisor.ollama.pull_lines import PullLine

MAX_LAYERS: Final = 10_000
# The start of every status up to the last byte: `pulling manifest`, `pulling cb823f5d9f88`.
DOWNLOADING: Final = "pulling "


@dataclass(slots=True)
class _LayerProgress:
    """Bytes. `fetched` is what Ollama said last, which steps back when it begins a part anew; `completed` does not."""

    total: int
    completed: int
    fetched: int = 0


class PullProgress:
    """Follows the lines of one pull; pure but for what it remembers.

    Within an attempt `completed_bytes` never decreases: when Ollama fetches a part anew the figure waits for it. At the
    beginning of an attempt it is what lies on disk. Without a manifest layers become known one after another, so that
    `total_bytes` grows.
    """

    def __init__(self) -> None:
        self._layers: dict[str, _LayerProgress] = {}
        self._total_bytes = self._completed_bytes = 0  # sums, for a model may have thousands of layers
        self._numbers: dict[str, int] = {}
        self._begun_bytes = 0
        self._pace = Pace()
        self._layer: str | None = None
        self._seen: set[str] = set()
        self.refetched_bytes = 0
        """What had come, was lost (parts in flight at a SIGKILL, or of a line that was cut), and is fetched again."""
        self.is_manifest_known = False

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all layers known so far; None before the first."""
        return self._total_bytes if self._layers else None

    @property
    def completed_bytes(self) -> int:
        """Bytes of these that are on disk."""
        return self._completed_bytes

    @property
    def figures(self) -> JobFigures:
        """How far it is, without the digests."""
        return JobFigures(self.total_bytes, self.completed_bytes, self.n_layers)

    @property
    def digests(self) -> tuple[str, ...]:
        """The layers known, in their order."""
        return tuple(self._layers)

    @property
    def layer(self) -> str | None:
        """The digest that is under way; None before and after the download."""
        return self._layer

    @property
    def layer_number(self) -> int | None:
        """The place of that layer, from 1."""
        return self._numbers.get(self._layer) if self._layer is not None else None

    @property
    def n_layers(self) -> int | None:
        """How many layers there are; None until the manifest is known."""
        return len(self._layers) if self.is_manifest_known else None

    def knows(self, digest: str) -> bool:
        """True when that layer is among them."""
        return digest in self._layers

    def lacks(self, digest: str) -> bool:
        """True when that layer is one of them and not complete."""
        layer = self._layers.get(digest)
        return layer is not None and layer.completed < layer.total

    def expect(self, layers: Iterable[Layer]) -> None:
        """All layers of the manifest, before the first of their bytes."""
        known = self._layers
        self._layers = {layer.digest: _LayerProgress(layer.size_bytes, 0) for layer in layers}
        for digest, layer in self._layers.items():
            if digest in known:
                layer.completed = min(known[digest].completed, layer.total)
                layer.fetched = known[digest].fetched
        self.is_manifest_known = True
        self._sum_up()

    @property
    def gained_bytes(self) -> int:
        """What the attempt under way has brought beyond what lay on disk at its beginning."""
        return self._completed_bytes - self._begun_bytes

    @property
    def begun_bytes(self) -> int:
        """What lay on disk at the beginning of that attempt."""
        return self._begun_bytes

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers known whose names are digests."""
        known = self._layers.items()
        return tuple(Layer(name, layer.total, "") for name, layer in known if DIGEST.fullmatch(name))

    def forget_gain(self) -> None:
        """Another attempt is made, of which nothing is known yet."""
        self._begun_bytes = self._completed_bytes

    def begin_attempt(self, on_disk: Iterable[LayerOnDisk]) -> None:
        """What an attempt begins with, by what lies on disk."""
        for found in on_disk:
            layer = self._layers.setdefault(
                found.layer.digest, _LayerProgress(found.layer.size_bytes, found.done_bytes)
            )
            layer.completed = min(found.done_bytes, layer.total)
            self._take_fetched(layer, layer.completed)
        self._sum_up()
        self.forget_gain()
        self._layer = None
        self._seen.clear()

    def note(self, line: PullLine, now_mono: float) -> None:
        """Takes in one line.

        The last figure of a layer may be missing (Ollama writes one every 60 ms); when Ollama goes on to verify what
        it fetched, all layers are complete.
        """
        if line.digest is None:
            if not line.status.startswith(DOWNLOADING):
                for layer in self._layers.values():
                    layer.completed = layer.total
                self._sum_up()
                self._layer = None
            return
        layer_before = self._layers.get(line.digest)
        if layer_before is None and len(self._layers) >= MAX_LAYERS:
            return
        fresh_bytes = self._note_layer(line.digest, layer_before, line.total or 0, line.completed or 0)
        self._pace.note(fresh_bytes, now_mono)

    def _note_layer(self, digest: str, before: _LayerProgress | None, total: int, completed: int) -> int:
        """The bytes that are new; what a layer has at first sight was there before: no speed of ours."""
        layer = before or _LayerProgress(total, completed)
        if before is None:
            self._layers[digest] = layer
            self._numbers[digest] = len(self._layers)
            self._total_bytes += total
            self._completed_bytes += completed
        self._layer = digest
        fresh_bytes = max(0, completed - layer.completed) if digest in self._seen else 0
        self._seen.add(digest)
        self._total_bytes -= layer.total
        self._completed_bytes -= layer.completed
        layer.total = max(total, layer.completed)
        layer.completed = max(layer.completed, completed)
        self._total_bytes += layer.total
        self._completed_bytes += layer.completed
        self._take_fetched(layer, completed)
        return fresh_bytes

    def completed_of(self, digest: str) -> int:
        """Bytes of one layer."""
        return self._layers[digest].completed

    def remaining_of(self, digest: str) -> int:
        """Bytes of one layer that are still to come."""
        return self._layers[digest].total - self._layers[digest].completed

    def speed_bytes_per_s(self, now_mono: float) -> float | None:
        """Bytes per second over the last 10 s; None until half a second has been seen."""
        return self._pace.speed_bytes_per_s(now_mono)

    def eta_s(self, now_mono: float) -> float | None:
        """Seconds until the layers known so far are complete; None when that cannot be said."""
        return eta_s(self.speed_bytes_per_s(now_mono), self.total_bytes, self.completed_bytes)

    def _sum_up(self) -> None:
        self._total_bytes = sum(layer.total for layer in self._layers.values())
        self._completed_bytes = sum(layer.completed for layer in self._layers.values())
        self._numbers = {digest: number for number, digest in enumerate(self._layers, 1)}

    def _take_fetched(self, layer: _LayerProgress, fetched: int) -> None:
        self.refetched_bytes += max(0, layer.fetched - fetched)
        layer.fetched = fetched
