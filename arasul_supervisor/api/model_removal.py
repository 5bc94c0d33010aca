"""The removal of a model: out of memory first, then off the disk, and then a look that it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.errors import EngineRefused, ModelBusy, not_installed
from arasul_supervisor.model_store.listing import read_store
from arasul_supervisor.model_store.purging import bytes_gone, purge, remove_corrupt_manifest
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.model_store.usage import own_blobs, sharers, weights_of
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.residency import Vacated
from arasul_supervisor.supervision.open_files import open_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.model_store.listing import BrokenManifest
    from arasul_supervisor.model_store.purging import Purged
    from arasul_supervisor.ollama.catalogue import CatalogueView
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import InstalledModel
    from arasul_supervisor.ollama.pulls.jobs import PullJobs

T = TypeVar("T")

# Together within DELETE_BOUND_S of `models.py`: two lists, an unload, a removal, two looks at the store.
ASK_S: Final = 2.4
UNLOAD_S: Final = 4.5
STORE_S: Final = 0.8

_BUSY: Final = {
    Vacated.ANSWERING: (
        "is still answering a request.",
        'Try again when it is done, or end it: POST /api/cache/clear {"force": true}.',
    ),
    Vacated.LOADING: ("is being loaded by a request.", "Try again when that request has ended."),
    Vacated.ENDING: (
        "was unloaded, and its runner has not ended yet.",
        "Try again in some seconds; POST /api/gpu/recover ends a runner that hangs.",
    ),
}


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did; `freed_bytes` were seen to be gone from the disk."""

    message: str
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class _Holding:
    """What goes with a model, as the store says it: blobs and weights of its own, and who shares its weights."""

    own_blobs: Mapping[str, int]
    own_weights: frozenset[str]
    sharers: tuple[str, ...]


class ModelRemoval:
    """Removes one model at a time for whoever asks; a loaded model that is removed could never be unloaded."""

    def __init__(self, access: EngineAccess, pulls: PullJobs, client: OllamaClient) -> None:
        self._access = access
        self._pulls = pulls
        self._client = client

    async def remove(self, name: str) -> Removed:
        """Unload it, remove it, and look that it is gone.

        :raises ModelBusy: it is being pulled, loaded or asked
        :raises ModelNotFound: it is neither installed nor lies broken in the store
        :raises EngineRefused: it is still there
        """
        self._refuse_while_pulled(name)
        before = await self._fresh()
        model = before.model(name)
        if model is None:
            return await self._remove_unlisted(name, before)
        holding = await self._holding(model.name)
        await self._vacate(model.name, holding.own_weights if holding else frozenset())
        self._refuse_while_pulled(name)  # it may have begun while a request ended
        self._refuse_while_a_pull_counts_on(holding, name)
        await self._client.delete(model.name, timeout_s=ASK_S)
        after = await self._seen_gone(model.name)
        if holding is None:
            return _by_ollamas_word(model, after)
        freed_bytes = await self._look(lambda store: bytes_gone(store, holding.own_blobs))
        return Removed(_message(model.name, holding.sharers), freed_bytes or 0)

    def _refuse_while_pulled(self, name: str) -> None:
        job = self._pulls.pulling(name)
        if job is not None:
            raise ModelBusy(
                f"{name} is being pulled.",
                hint=f"Cancel that pull first: DELETE /api/models/pulls/{job.id}.",
            )

    def _refuse_while_a_pull_counts_on(self, holding: _Holding | None, name: str) -> None:
        """Ollama does not look again at a layer that it found there: the pull would end without it."""
        for job in self._pulls.jobs():
            if holding is not None and job.is_active and not holding.own_blobs.keys().isdisjoint(job.digests):
                raise ModelBusy(
                    f"{name} shares layers with {job.model}, which is being pulled.",
                    hint=f"Wait for that pull, or cancel it: DELETE /api/models/pulls/{job.id}.",
                )

    async def _remove_unlisted(self, name: str, before: CatalogueView) -> Removed:
        """A model that Ollama does not list, because its manifest or its configuration is broken."""
        broken = next((one for one in before.broken if same_model(one.name, name)), None)
        if broken is None:
            raise not_installed(name)
        holding = await self._holding(broken.name)
        await self._vacate(broken.name, holding.own_weights if holding else frozenset())
        freed_bytes: int | None = 0
        try:
            await self._client.delete(broken.name, timeout_s=ASK_S)
            if holding:
                freed_bytes = await self._look(lambda store: bytes_gone(store, holding.own_blobs))
        except EngineRefused as refusal:
            freed_bytes = await self._remove_by_hand(broken, refusal)
        await self._seen_gone(broken.name)
        return Removed(f"Removed {broken.name}, which was broken.", freed_bytes or 0)

    async def _remove_by_hand(self, broken: BrokenManifest, refusal: EngineRefused) -> int:
        """Bytes freed of the blobs that the broken manifest still named and nothing else does."""
        file, pid = broken.corrupt_file, self._access.engine.snapshot.pid
        if file is None:
            raise EngineRefused(refusal.sentence, hint=broken.reason) from refusal
        digests = await self._look(lambda _: remove_corrupt_manifest(file))
        if digests is None:
            raise EngineRefused(
                f"The broken manifest of {broken.name} could not be removed.", hint=f"Remove {file} by hand."
            ) from refusal
        wanted = self._pulls.others.digests(None)

        def free(store: Path) -> Purged:
            return purge(store, digests, wanted=wanted, open_files=open_files(pid, store))

        purged = await self._look(free)
        return purged.freed_bytes if purged else 0

    async def _vacate(self, name: str, weights: frozenset[str]) -> None:
        outcome = await self._access.residency.vacate(name, weights=weights, bound_s=UNLOAD_S)
        if outcome is not Vacated.GONE:
            what, hint = _BUSY[outcome]
            raise ModelBusy(f"{name} {what}", hint=hint)

    async def _seen_gone(self, name: str) -> CatalogueView:
        after = await self._fresh()
        self._access.models_changed()
        if after.model(name) is not None or any(same_model(one.name, name) for one in after.broken):
            raise EngineRefused(f"Ollama says that it removed {name}, and still lists it.")
        return after

    async def _holding(self, name: str) -> _Holding | None:
        """None where the store does not say."""
        return await self._look(lambda store: _read_holding(store, name))

    async def _fresh(self) -> CatalogueView:
        self._access.catalogue.invalidate()
        return await self._access.catalogue.models(timeout_s=ASK_S)

    async def _look(self, look: Callable[[Path], T]) -> T | None:
        """None where the store is not known or cannot be read."""
        store = self._access.catalogue.store
        if store is None:
            return None
        try:
            return await store.call(look, timeout_s=STORE_S)
        except StoreUnread:
            return None


def _read_holding(store: Path, name: str) -> _Holding | None:
    listing = read_store(store)
    model = next((one for one in listing.models if same_model(one.name, name)), None)
    if model is None:
        return None
    own = own_blobs(listing, model)
    return _Holding(own, weights_of(model) & own.keys(), sharers(listing, model))


def _by_ollamas_word(model: InstalledModel, after: CatalogueView) -> Removed:
    """Where the store is not ours to see: all or nothing, by the digest that two names of a model share."""
    heirs = tuple(other.name for other in after.models if other.digest == model.digest)
    return Removed(_message(model.name, heirs), 0 if heirs else model.size_bytes)


def _message(name: str, heirs: tuple[str, ...]) -> str:
    if not heirs:
        return f"Removed {name}."
    keep = "keeps" if len(heirs) == 1 else "keep"
    return f"Removed {name}; {', '.join(heirs)} {keep} the same weights."
