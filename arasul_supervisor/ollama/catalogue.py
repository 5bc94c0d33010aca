"""Which models are installed and what they take on disk: asked for at most once at a time, kept for 30 s."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.model_store.listing import read_store
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.model_store.usage import disk_usage
from arasul_supervisor.ollama.names import canonical, same_model
from arasul_supervisor.ollama.shared_call import SharedCall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.listing import BrokenManifest
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.model_store.usage import DiskUsage
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import InstalledModel

KEEP_S: Final = 30.0
# Of an asker's bound: a store that hangs, on a network or so, never makes the answer late.
STORE_RATIO: Final = 0.5


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What the store says of its models: bytes by their canonical names, and those that cannot be used."""

    usage: Mapping[str, DiskUsage]
    broken: tuple[BrokenManifest, ...]


@dataclass(frozen=True, slots=True)
class CatalogueView:
    """The installed models, newest first, and how old this knowledge is.

    `on_disk`: None when the store could not be read in time. Ollama's list and ours are two looks, so that either may
    have a model that the other has not.
    """

    models: tuple[InstalledModel, ...]
    age_s: float
    is_cached: bool
    on_disk: OnDisk | None = None

    def model(self, name: str) -> InstalledModel | None:
        """The installed model of that name."""
        return next((model for model in self.models if same_model(model.name, name)), None)

    def usage(self, name: str) -> DiskUsage | None:
        """What it takes on disk; None when that is not known."""
        return self.on_disk.usage.get(canonical(name)) if self.on_disk else None

    @property
    def broken(self) -> tuple[BrokenManifest, ...]:
        """The models that cannot be used, as far as the store could be read."""
        return self.on_disk.broken if self.on_disk else ()


@dataclass(frozen=True, slots=True)
class _Memory:
    models: tuple[InstalledModel, ...]
    on_disk: OnDisk | None
    asked_mono: float
    edition: int


class Catalogue:
    """Remembers `/api/tags`, and what the store said at the same time.

    An *edition* is the time between two invalidations: an answer that was asked for in an older edition is
    still told to who asked then, but does not count as fresh.
    """

    def __init__(
        self, client: OllamaClient, clock: Clock, *, store: StoreReader | None = None, keep_s: float = KEEP_S
    ) -> None:
        """Ask nothing yet.

        :param store: the folder of the models; without it nothing is known of the disk
        """
        self.store = store
        self._client = client
        self._clock = clock
        self._keep_s = keep_s
        self._edition = 0
        self._memory: _Memory | None = None
        self._refresh = SharedCall(self._ask, name="ollama-tags")

    async def models(self, *, timeout_s: float) -> CatalogueView:
        """The installed models, at most 30 s old.

        :raises ArasulError: when Ollama had to be asked and did not answer; the memory stays
        """
        memory = self._memory
        if memory is not None and self._is_fresh(memory):
            return self._view(memory, is_cached=True)
        return self._view(await self._refresh.join(timeout_s=timeout_s), is_cached=False)

    def invalidate(self) -> None:
        """Something changed: the next asker gets an answer that was asked for after now."""
        self._edition += 1
        self._refresh.detach()

    @property
    def known(self) -> tuple[InstalledModel, ...]:
        """What the last answer said, however old; empty before the first."""
        return self._memory.models if self._memory is not None else ()

    @property
    def known_age_s(self) -> float | None:
        """Seconds since that answer; None before the first."""
        return self._age_s(self._memory) if self._memory is not None else None

    def known_model(self, name: str) -> InstalledModel | None:
        """One model from memory."""
        return next((model for model in self.known if same_model(model.name, name)), None)

    async def close(self) -> None:
        """Ends a question under way."""
        await self._refresh.close()

    async def _ask(self, timeout_s: float) -> _Memory:
        edition, asked_mono = self._edition, self._clock.mono()
        look = asyncio.ensure_future(self._look_at_store(timeout_s * STORE_RATIO))
        try:
            models = tuple(await self._client.tags(timeout_s=timeout_s))
            memory = _Memory(models, await look, asked_mono, edition)
        finally:
            await end_task(look)
        if self._memory is None or edition >= self._memory.edition:
            self._memory = memory
        return memory

    async def _look_at_store(self, timeout_s: float) -> OnDisk | None:
        if self.store is None:
            return None
        try:
            return await self.store.call(_read_on_disk, timeout_s=timeout_s)
        except StoreUnread:  # said by null in place of the bytes
            return None

    def _view(self, memory: _Memory, *, is_cached: bool) -> CatalogueView:
        return CatalogueView(memory.models, self._age_s(memory), is_cached, memory.on_disk)

    def _is_fresh(self, memory: _Memory) -> bool:
        return memory.edition == self._edition and self._age_s(memory) < self._keep_s

    def _age_s(self, memory: _Memory) -> float:
        return max(0.0, self._clock.mono() - memory.asked_mono)


def _read_on_disk(store: Path) -> OnDisk:
    listing = read_store(store)
    usage = {canonical(name): usage for name, usage in disk_usage(listing).items()}
    return OnDisk(usage, listing.broken)
