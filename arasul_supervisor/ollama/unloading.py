"""Getting models out of memory: ask each to go, then look until none is listed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import ArasulError, EngineSilent, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import LoadedModel

# A tiny model is gone 6 ms after the unload call (facts/ollama.md §4.1), a large one later.
LOOK_EVERY_S: Final = 0.05
# A look that had this long and got no answer says that the engine is silent; a shorter one ran out of time.
SILENT_AFTER_S: Final = 1.0


class Unloading:
    """One unload of one or more models. What counts is only what is seen, never what the unload call said."""

    def __init__(
        self,
        client: OllamaClient,
        clock: Clock,
        *,
        look: Callable[[float], Awaitable[tuple[LoadedModel, ...]]],
    ) -> None:
        """Remember the parts.

        :param look: the loaded models now; takes its bound in seconds
        """
        self._client = client
        self._clock = clock
        self._look = look
        self._deleted: set[str] = set()

    async def run(self, models: Collection[LoadedModel], deadline_mono: float) -> tuple[LoadedModel, ...]:
        """Those of the models that are still listed at the deadline; () as soon as none is.

        :raises EngineSilent: when Ollama does not say what became of them
        """
        asked = [
            asyncio.create_task(self._ask_to_go(model.name, deadline_mono), name=f"unload-{model.name}")
            for model in models
        ]
        try:
            # An unload call may block for seconds (§4.1): the first look does not wait for all of them.
            await asyncio.wait(asked, timeout=LOOK_EVERY_S)
            return await self._look_until_gone({model.name for model in models}, deadline_mono)
        finally:
            for task in asked:
                await end_task(task)

    def without_deleted(self, models: Collection[LoadedModel]) -> tuple[LoadedModel, ...]:
        """The models without those that Ollama lists as loaded but no longer as installed.

        Nobody can unload these by a call (facts/ollama.md §7 row 20), and they stay listed after their runner was
        ended: to be left out only then.
        """
        return tuple(model for model in models if model.name not in self._deleted)

    def only_deleted(self, models: Collection[LoadedModel]) -> tuple[LoadedModel, ...]:
        """The others: those that Ollama lists as loaded but no longer as installed."""
        return tuple(model for model in models if model.name in self._deleted)

    async def _ask_to_go(self, name: str, deadline_mono: float) -> None:
        try:
            await self._client.unload(name, timeout_s=max(0.0, deadline_mono - self._clock.mono()))
        except ModelNotFound:
            self._deleted.add(name)
        except ArasulError:
            # Frozen (no answer), queue full (503), engine gone: what is seen afterwards tells it.
            return

    async def _look_until_gone(self, names: set[str], deadline_mono: float) -> tuple[LoadedModel, ...]:
        seen: tuple[LoadedModel, ...] | None = None
        while True:
            left_s = deadline_mono - self._clock.mono()
            try:
                seen = tuple(model for model in await self._look(left_s) if model.name in names)
            except EngineSilent:
                if seen is None or left_s >= SILENT_AFTER_S:
                    raise
                return seen
            left_s = deadline_mono - self._clock.mono()
            if not seen or left_s <= 0:
                return seen
            await asyncio.sleep(min(LOOK_EVERY_S, left_s))
