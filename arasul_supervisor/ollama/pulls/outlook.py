"""What a pull will need, looked at before its bytes flow: its layers by the registry, what is there of them on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.disk import free_bytes
from arasul_supervisor.model_store.part_mending import MendedParts, mend_parts
from arasul_supervisor.model_store.parts import layers_on_disk, part_files
from arasul_supervisor.model_store.reader import StoreUnread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.manifests import Layer
    from arasul_supervisor.model_store.parts import LayerOnDisk
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.registry import Registry

# A tag may be given another model while a pull of it is taken up again for hours.
LOOK_AGAIN_AFTER_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Found:
    """What is on the disk of one pull, and how much room there is; None where it could not be seen."""

    on_disk: tuple[LayerOnDisk, ...] | None
    free_bytes: int | None


class Outlook:
    """Of one pull. Nothing here decides: where nothing can be seen, Ollama is simply asked to pull."""

    def __init__(
        self,
        job: PullJob,
        registry: Registry,
        store: StoreReader,
        *,
        open_files: Callable[[Path], Collection[str]],
        clock: Clock,
    ) -> None:
        """Look at nothing yet.

        :param open_files: absolute paths below that folder that the engine has open; blocks
        """
        self._job, self._registry, self._store, self._clock = job, registry, store, clock
        self._open_files = open_files
        self._layers: tuple[Layer, ...] | None = None
        self._looked_mono: float | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """By the registry's manifest, else those that Ollama has named so far."""
        return self._job.progress.layers if self._layers is None else self._layers

    async def ask_registry(self) -> None:
        """Takes in the registry's manifest, where it has one for us, at most once in ten minutes.

        :raises RegistryAsksToWait: it said for how long
        """
        now_mono = self._clock.mono()
        if self._looked_mono is not None and now_mono - self._looked_mono < LOOK_AGAIN_AFTER_S:
            return
        order = self._job.order
        manifest = await self._registry.manifest(order.real, is_insecure=order.is_insecure)
        if manifest is not None:
            self._looked_mono = self._clock.mono()
            self._layers = manifest.layers
            self._job.progress.expect(manifest.layers)

    def forget_registry(self) -> None:
        """Ask it anew before the next attempt."""
        self._looked_mono = None

    async def look(self) -> Found:
        """What is on the disk now."""
        layers = self.layers
        try:
            on_disk, free = await self._store.call(
                lambda folder: (layers_on_disk(folder, layers), free_bytes(folder))
            )
        except StoreUnread:
            return Found(None, None)
        return Found(on_disk if layers else None, free)

    async def mend(self, *, fetched_elsewhere: frozenset[str]) -> bool:
        """Cures what keeps Ollama from going on with the parts of this pull; True when there was something to cure.

        What Ollama has open is somebody's `ollama pull` in a terminal, and is left alone as well.

        :param fetched_elsewhere: digests that other pulls of ours fetch now
        """
        layers = [layer for layer in self.layers if layer.digest not in fetched_elsewhere]
        try:
            mended = await self._store.call(lambda folder: self._mend(folder, layers))
        except StoreUnread:
            return False
        return bool(mended.rewritten or mended.removed)

    def _mend(self, folder: Path, layers: list[Layer]) -> MendedParts:
        opened = self._open_files(folder)
        idle = [
            layer
            for layer in layers
            if not any(str(part) in opened for part in part_files(folder, layer.digest))
        ]
        return mend_parts(folder, idle)
