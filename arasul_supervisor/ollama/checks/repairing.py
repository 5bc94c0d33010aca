"""What is done about a broken model: ask its registry, unload it, remove the damaged blobs, pull it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError, ModelBusy, RegistryError
from arasul_supervisor.model_store.hashing import remove_damaged_blob
from arasul_supervisor.ollama.checks.findings import BEING_PULLED, Offer, may_be_insecure, users_of
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.residency import Vacated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from arasul_supervisor.model_store.listing import StoredModel
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.aliases import Aliases
    from arasul_supervisor.ollama.checks.findings import Cure
    from arasul_supervisor.ollama.pulls.jobs import PullJobs
    from arasul_supervisor.ollama.pulls.registry import Registry
    from arasul_supervisor.ollama.residency import Residency

LOOK_S: Final = 10.0
UNLOAD_S: Final = 30.0


class Repairing:
    """Mends models one after another; a pull that it began is a job of its own and goes on without it."""

    def __init__(
        self,
        store: StoreReader,
        *,
        pulls: PullJobs,
        residency: Residency,
        registry: Registry,
        aliases: Aliases,
        unload_s: float = UNLOAD_S,
    ) -> None:
        """Remember the parts.

        :param unload_s: how long a model that answers a request is waited for
        """
        self._store = store
        self._pulls = pulls
        self._residency = residency
        self._registry = registry
        self._aliases = aliases
        self._unload_s = unload_s

    async def offers(self, names: Iterable[str], *, say: Callable[[str], None]) -> dict[str, Offer]:
        """What the registries have under these names now, in their order."""
        found = {}
        for name in names:
            say(f"asking the registry for {name}")
            found[name] = await self._offer(name)
        return found

    async def mend(
        self, cure: Cure, models: Iterable[StoredModel], *, say: Callable[[str], None]
    ) -> str | None:
        """Carries out a cure; None when the model was pulled, else why not, as one sentence."""
        users = users_of(models, cure.digests)
        try:
            if cure.digests:
                say(f"unloading what uses the damaged blobs of {cure.name}")
                await self._unload(users, cure.digests)
                # A pull that has begun meanwhile may count on them: Ollama looks at what is there only once.
                if not self._pulls.others.digests(None).isdisjoint(cure.digests):
                    return BEING_PULLED
                await self._store.call(lambda store: _remove(store, cure.digests))
                with suppress(ModelBusy):  # loaded between the two: it goes when it has answered
                    await self._unload(users, cure.digests)
            say(f"pulling {cure.name}")
            pull = await self._pulls.begin(cure.name, is_insecure=cure.is_insecure).ended()
        except ArasulError as error:
            return error.sentence
        if pull.state is JobState.DONE:
            return None
        return pull.error or f"Its pull {pull.id} is {pull.state.value}."

    async def _offer(self, name: str) -> Offer:
        if self._pulls.pulling(name) is not None:
            return Offer(refusal=BEING_PULLED)
        real = self._aliases.resolve(name)
        # Nobody wrote down how it was pulled: without TLS only what lies near.
        for is_insecure in (False, True) if may_be_insecure(real) else (False,):
            try:
                manifest = await self._registry.manifest(real, is_insecure=is_insecure)
            except RegistryError as error:
                return Offer(refusal=error.sentence)
            if manifest is not None:
                return Offer(frozenset(layer.digest for layer in manifest.layers), is_insecure)
        return Offer()

    async def _unload(self, users: Sequence[StoredModel], digests: Collection[str]) -> None:
        """Until no runner holds one of the blobs.

        :raises ModelBusy: one does, and will for a while
        """
        manifests = {model.digest for model in users}
        for loaded in await self._residency.loaded(timeout_s=LOOK_S):
            if loaded.digest in manifests or any(same_model(loaded.name, model.name) for model in users):
                became = await self._residency.vacate(
                    loaded.name, weights=frozenset(), bound_s=self._unload_s
                )
                _raise_unless_gone(loaded.name, became)
        for model in users[:1]:  # whatever name a runner was started for
            became = await self._residency.vacate(
                model.name, weights=frozenset(digests), bound_s=self._unload_s
            )
            _raise_unless_gone(model.name, became)


def _raise_unless_gone(name: str, became: Vacated) -> None:
    if became is not Vacated.GONE:
        raise ModelBusy(
            f"Its damaged blob is in use: {name} is still {became.value}.",
            hint="Ask again when it is done; nothing was changed.",
        )


def _remove(store: Path, digests: Iterable[str]) -> None:
    for digest in digests:
        remove_damaged_blob(store, digest)
