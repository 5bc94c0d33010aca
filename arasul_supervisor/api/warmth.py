"""Keeps what `/health` says of the models from memory warm, without ever making it wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.residency import Residency
    from arasul_supervisor.supervision.engine import Engine

LOOK_EVERY_S: Final = 1.0
LOADED_KEPT_S: Final = (
    30.0  # the catalogue keeps its answer as long by itself; each question is a line in a log
)
ASK_S: Final = 3.0


class Warmth:
    """Asks the engine in the background, one question at a time, only while it answers and somebody wants to know.

    Asked for by `/health`; besides, at each start of the engine and after each change of the models.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue, residency: Residency, *, clock: Clock) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._residency = residency
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next_look_mono = 0.0
        self._loaded_until_mono = 0.0
        self._of_generation = 0

    def ask(self) -> None:
        """Begin a refresh when it is due and possible; returns at once."""
        now_mono = self._clock.mono()
        is_busy = self._task is not None and not self._task.done()
        if is_busy or now_mono < self._next_look_mono or not self._engine.snapshot.is_answering:
            return
        self._next_look_mono = now_mono + LOOK_EVERY_S
        self._task = asyncio.get_running_loop().create_task(self._refresh(), name="api-warmth")

    def engine_changed(self) -> None:
        """Look anew when a new engine answers."""
        snapshot = self._engine.snapshot
        if snapshot.is_answering and snapshot.generation != self._of_generation:
            self._of_generation = snapshot.generation
            self._catalogue.invalidate()
            self.models_changed()

    def models_changed(self) -> None:
        """What is known of the loaded models is old now."""
        self._next_look_mono = self._loaded_until_mono = 0.0
        self.ask()

    async def close(self) -> None:
        """End a refresh under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _refresh(self) -> None:
        try:
            await self._catalogue.models(timeout_s=ASK_S)
            if self._clock.mono() >= self._loaded_until_mono:
                self._loaded_until_mono = self._clock.mono() + LOADED_KEPT_S
                await self._residency.loaded(timeout_s=ASK_S)
        except ArasulError:
            return  # memory stays, with its age; the next turn asks again
