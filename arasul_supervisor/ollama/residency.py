"""Which models lie in memory: looked at, loaded, and unloaded with proof."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError, EngineRefused, EngineSilent
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.shared_call import SharedCall
from arasul_supervisor.ollama.unloading import LOOK_EVERY_S, Unloading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import LoadedModel

# A forced unload asks politely for this part of its bound before it ends the runners.
POLITE_RATIO: Final = 0.25
POLITE_MAX_S: Final = 1.0
# How long a model may take to show in /api/ps after Ollama said that it is loaded.
SHOW_BOUND_S: Final = 10.0
# A runner that was unloaded by somebody else, and still runs after this long, is taken for one that loads.
ENDING_S: Final = 1.0
# For the sizes of models that Ollama gives as 0; the unload does not depend on it.
SIZES_BOUND_S: Final = 0.5
# Keep-alive 0 in a load call means unload; a load of ours is kept this long, so that it can be seen.
SHORTEST_KEEP_ALIVE_S: Final = 5


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What an unload did. `freed_bytes` is what the models took by Ollama's word, see `held_bytes`.

    `deleted` are those of `still_loaded` that were removed from the disk while loaded: no call unloads them.
    """

    unloaded: tuple[LoadedModel, ...] = ()
    still_loaded: tuple[LoadedModel, ...] = ()
    deleted: tuple[LoadedModel, ...] = ()
    was_clear: bool = False
    freed_bytes: int = 0


class Vacated(Enum):
    """What became of a model that was to be out of memory."""

    GONE = "gone"
    ANSWERING = "answering"  # a request holds it
    LOADING = "loading"  # a runner has its weights, and Ollama does not list it yet
    ENDING = "ending"  # it was unloaded, and its runner lives on


async def _no_runners() -> Mapping[int, str]:
    """Where nobody looks at processes, `/api/ps` alone tells."""
    return {}


class Residency:
    """The models in memory. Nothing it says of them was not seen in `/api/ps`."""

    def __init__(
        self,
        client: OllamaClient,
        clock: Clock,
        *,
        end_runners: Callable[[], Awaitable[int]],
        runner_blobs: Callable[[], Awaitable[Mapping[int, str]]] = _no_runners,
        catalogue: Catalogue,
        keep_alive_s: int,
    ) -> None:
        """Remember the parts.

        :param end_runners: SIGKILL of every model runner; the number ended
        :param runner_blobs: pid and weights, `sha256:…`, of every runner, from its spawn to its end
        :param keep_alive_s: how long a model that we load stays after its last use; negative: for ever
        """
        self._client = client
        self._clock = clock
        self._end_runners = end_runners
        self._runner_blobs = runner_blobs
        self._catalogue = catalogue
        self._keep_alive_s = SHORTEST_KEEP_ALIVE_S if keep_alive_s == 0 else keep_alive_s
        self._known: tuple[LoadedModel, ...] = ()
        self._ghosts: set[tuple[str, str]] = set()
        self._shared_look = SharedCall(self._look, name="ollama-ps")

    @property
    def known(self) -> tuple[LoadedModel, ...]:
        """What the last look saw; empty before the first."""
        return self._known

    async def loaded(self, *, timeout_s: float) -> tuple[LoadedModel, ...]:
        """The loaded models, looked at now; askers at the same time share one call."""
        return await self._shared_look.join(timeout_s=timeout_s)

    async def unload_all(self, *, bound_s: float, is_forced: bool) -> Unloaded:
        """Unloads every model and looks until they are gone, or the bound is over.

        A model that answers a request stays until it has answered: it is `still_loaded`. Forced, its runner is
        ended. A model that is still being loaded shows nowhere and is left alone.

        :raises EngineSilent: when Ollama could not be asked, or does not say what became of them
        """
        deadline_mono = self._clock.mono() + bound_s
        if is_forced:
            return await self._unload_by_force(deadline_mono, min(POLITE_MAX_S, bound_s * POLITE_RATIO))
        before = await self._look(bound_s)
        if not before:
            return Unloaded(was_clear=True)
        await self._learn_sizes(before)
        unloading = self._unloading()
        left = await unloading.run(before, deadline_mono)
        return self._outcome(before, left, unloading)

    async def unload(self, name: str, *, bound_s: float) -> bool:
        """True once that model is seen gone; False when it is still loaded at the end of the bound.

        :raises ModelNotFound: when it is neither installed nor loaded
        """
        deadline_mono = self._clock.mono() + bound_s
        before = [model for model in await self._look(bound_s) if self._is_same_runner(model, name)]
        if before:
            return not await self._unloading().run(before, deadline_mono)
        await self._client.unload(name, timeout_s=max(0.0, deadline_mono - self._clock.mono()))
        return True

    async def vacate(self, name: str, *, weights: frozenset[str], bound_s: float) -> Vacated:
        """Unloads an installed model and looks until neither `/api/ps` nor a runner has it.

        A runner is gone some time after `/api/ps` has dropped its model (facts/ollama.md §4.1), and there some time
        before.

        :param weights: digests of what only this model has; of a model whose other names share them all, a runner
            may stay, and only what is listed under this name counts
        :raises EngineSilent: when Ollama does not say what became of it
        """
        began_mono = self._clock.mono()
        deadline_mono = began_mono + bound_s
        was_listed = False
        while True:
            listed = await self._listed(name, weights, deadline_mono - self._clock.mono())
            if listed:
                was_listed = True
                if await self._unloading().run(listed, deadline_mono):
                    return Vacated.ANSWERING
            if not weights or weights.isdisjoint((await self._runner_blobs()).values()):
                return Vacated.GONE
            now_mono = self._clock.mono()
            if not was_listed and now_mono - began_mono >= min(ENDING_S, bound_s):
                return Vacated.LOADING
            if now_mono >= deadline_mono:
                return Vacated.ENDING
            await asyncio.sleep(LOOK_EVERY_S)

    async def load(
        self, name: str, *, options: Mapping[str, int], keep_alive_s: int | None = None
    ) -> LoadedModel:
        """Loads a model; ends when it is seen loaded. The caller bounds it.

        :param options: runner options; empty unless this generation needs one (facts/ollama.md §0.14)
        :param keep_alive_s: not 0; None is the configured one
        :raises ModelNotFound: when it is not installed
        :raises EngineRefused: when the load failed, with Ollama's reason
        """
        stays_s = self._keep_alive_s if keep_alive_s is None else keep_alive_s
        await self._client.load(name, keep_alive_s=stays_s, options=options)
        loaded = await self._look(SHOW_BOUND_S)
        if loaded and not any(self._is_same_runner(model, name) for model in loaded):
            await self._catalogue.models(
                timeout_s=SHOW_BOUND_S
            )  # it may be listed by another name of its blob
        for model in loaded:
            if self._is_same_runner(model, name):
                return model
        raise EngineRefused(
            f"Ollama said that '{name}' is loaded, and does not list it as loaded.",
            hint="Its runner may have ended at once; GET /api/logs says more.",
        )

    async def close(self) -> None:
        """Ends a look under way."""
        await self._shared_look.close()

    async def _unload_by_force(self, deadline_mono: float, polite_s: float) -> Unloaded:
        """Asks first, for a short time; then ends the runners and looks again."""
        unloading = self._unloading()
        before: tuple[LoadedModel, ...] | None = None
        try:
            polite_mono = self._clock.mono() + polite_s
            before = await self._look(polite_s)
            if not before:
                return Unloaded(was_clear=True)
            await self._learn_sizes(before)
            left = await unloading.run(before, polite_mono)
            if not left:
                return self._outcome(before, (), unloading)
        except EngineSilent:
            # A wholly stopped runner can block /api/ps for a while (§3.2): ending it frees the engine.
            left = before or ()
        await self._end_runners()
        if before is None:
            before = left = await self._look(deadline_mono - self._clock.mono())
        self._ghosts |= {_identity(model) for model in unloading.only_deleted(left)}
        left = unloading.without_deleted(left)
        # A runner that died idle stays listed until somebody asks for it or for its unload (§7 row 4).
        left = await unloading.run(left, deadline_mono) if left else ()
        return self._outcome(before, unloading.without_deleted(left), unloading)

    def _unloading(self) -> Unloading:
        return Unloading(self._client, self._clock, look=self._look)

    async def _look(self, timeout_s: float) -> tuple[LoadedModel, ...]:
        listed = await self._client.ps(timeout_s=max(0.0, timeout_s))
        self._ghosts &= {_identity(model) for model in listed}
        self._known = tuple(model for model in listed if not self._is_ghost(model))
        return self._known

    def _is_ghost(self, model: LoadedModel) -> bool:
        """True for a model that was deleted while loaded and whose runner was ended: Ollama lists it for ever."""
        return _identity(model) in self._ghosts and self._catalogue.known_model(model.name) is None

    def _is_same_runner(self, loaded: LoadedModel, name: str) -> bool:
        """True when that name's model is what is loaded; two names of one blob share one entry (§3.2)."""
        installed = self._catalogue.known_model(name)
        return same_model(loaded.name, name) or (installed is not None and loaded.digest == installed.digest)

    async def _listed(self, name: str, weights: frozenset[str], timeout_s: float) -> list[LoadedModel]:
        return [
            model
            for model in await self._look(timeout_s)
            if same_model(model.name, name) or (weights and self._is_same_runner(model, name))
        ]

    async def _learn_sizes(self, models: Collection[LoadedModel]) -> None:
        if all(self.held_bytes(model) > 0 for model in models):
            return
        with suppress(ArasulError):
            await self._catalogue.models(timeout_s=SIZES_BOUND_S)

    def _outcome(
        self, before: Collection[LoadedModel], left: tuple[LoadedModel, ...], unloading: Unloading
    ) -> Unloaded:
        left_names = {model.name for model in left}
        gone = tuple(model for model in before if model.name not in left_names)
        deleted = unloading.only_deleted(left)
        return Unloaded(gone, left, deleted, freed_bytes=sum(map(self.held_bytes, gone)))

    def held_bytes(self, model: LoadedModel) -> int:
        """What Ollama says that the model takes in memory.

        On a CPU-only box it may say 0 (facts/ollama.md §3.2): then the size of its weights on disk, which a
        runner holds at least; 0 when that is not known either.
        """
        if model.size_bytes > 0:
            return model.size_bytes
        installed = self._catalogue.known_model(model.name)
        return installed.size_bytes if installed is not None else 0


def _identity(model: LoadedModel) -> tuple[str, str]:
    return model.name, model.digest
