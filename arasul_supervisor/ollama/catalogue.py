"""Which models are installed: asked for at most once at a time, kept for 30 s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.shared_call import SharedCall

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import InstalledModel

KEEP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class CatalogueView:
    """The installed models, newest first, and how old this knowledge is."""

    models: tuple[InstalledModel, ...]
    age_s: float
    is_cached: bool


@dataclass(frozen=True, slots=True)
class _Memory:
    models: tuple[InstalledModel, ...]
    asked_mono: float
    edition: int


class Catalogue:
    """Remembers `/api/tags`.

    An *edition* is the time between two invalidations: an answer that was asked for in an older edition is
    still told to who asked then, but does not count as fresh.
    """

    def __init__(self, client: OllamaClient, clock: Clock, *, keep_s: float = KEEP_S) -> None:
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
            return CatalogueView(memory.models, self._age_s(memory), is_cached=True)
        memory = await self._refresh.join(timeout_s=timeout_s)
        return CatalogueView(memory.models, self._age_s(memory), is_cached=False)

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
        models = tuple(await self._client.tags(timeout_s=timeout_s))
        memory = _Memory(models, asked_mono, edition)
        if self._memory is None or edition >= self._memory.edition:
            self._memory = memory
        return memory

    def _is_fresh(self, memory: _Memory) -> bool:
        return memory.edition == self._edition and self._age_s(memory) < self._keep_s

    def _age_s(self, memory: _Memory) -> float:
        return max(0.0, self._clock.mono() - memory.asked_mono)
