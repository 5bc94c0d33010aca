"""The way of one check: look at the blobs, and for a repair fetch the broken ones anew and look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError, not_installed
from arasul_supervisor.model_store.listing import read_store
from arasul_supervisor.ollama.checks.findings import (
    broken_models,
    fault_of,
    findings_of,
    is_known,
    layers_to_check,
    names_to_ask_for,
    plan_cures,
    shown_digest,
)
from arasul_supervisor.ollama.checks.hasher import BlobHasher
from arasul_supervisor.ollama.checks.job import CheckKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.listing import StoreListing
    from arasul_supervisor.model_store.manifests import Layer
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.checks.findings import CurePlan, Fault, Findings
    from arasul_supervisor.ollama.checks.job import CheckJob
    from arasul_supervisor.ollama.checks.repairing import Repairing

STILL_BROKEN: Final = "It was pulled anew and is still broken."


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """How long things may take.

    `stall_s`: how long the disk may bring nothing. `tick_s`: how often progress is noted. `thread_end_s`: until a
    thread that was told to stop has stopped.
    """

    stall_s: float = 60.0
    tick_s: float = 0.25
    thread_end_s: float = 0.5


class NotRepaired(ArasulError):
    """Not every broken model could be repaired."""

    code, status = "not_repaired", 500


class CheckRun:
    """Runs one check to its end."""

    def __init__(
        self, job: CheckJob, store: StoreReader, repairing: Repairing, *, clock: Clock, limits: CheckLimits
    ) -> None:
        self._job = job
        self._store = store
        self._repairing = repairing
        self._clock = clock
        self._limits = limits
        self._hasher = BlobHasher(clock, stall_s=limits.stall_s, tick_s=limits.tick_s)
        self._whole: set[str] = set()
        self._tried: dict[str, str] = {}

    async def run(self) -> None:
        """Until the job is done or failed; a cancellation leaves its state to the owner.

        :raises ArasulError: it could not look: the owner tells it
        """
        self._job.begin()
        try:
            if self._job.kind is CheckKind.VERIFY:
                await self._look()
                self._job.succeed()
            else:
                await self._repair()
        finally:
            await self._hasher.close(timeout_s=self._limits.thread_end_s)

    async def _look(self) -> Findings:
        """Looks at every blob that was not seen whole before.

        :raises ModelNotFound: the model that was asked for is not installed (any more)
        """
        folder, listing = await self._read()
        found = findings_of(listing)
        name = self._job.model
        if name is not None and not is_known(found, name):
            raise not_installed(name)
        layers = [layer for layer in layers_to_check(found.models, name) if layer.digest not in self._whole]
        self._job.progress.expect(layers)
        faults: dict[str, Fault] = {}
        for layer in layers:
            fault = await self._check(folder, layer)
            if fault is None:
                self._whole.add(layer.digest)
            else:
                faults[layer.digest] = fault
                self._tell(findings_of(listing, faults))
        _, listing = await self._read()  # what was removed meanwhile is not broken
        found = findings_of(listing, faults)
        self._tell(found)
        return found

    async def _repair(self) -> None:
        """Every broken blob is tried once; a manifest that came anew may bring others to look at."""
        while True:
            found = await self._look()
            plan = await self._plan(found)
            if not plan.cures:
                break
            for cure in plan.cures:
                setback = await self._repairing.mend(cure, found.models, say=self._job.say)
                for key in cure.digests or (cure.name,):
                    self._tried[key] = setback or STILL_BROKEN
        self._tell(found, plan.hopeless)
        self._end_repair()

    async def _plan(self, found: Findings) -> CurePlan:
        names = names_to_ask_for(found, self._job.model, self._tried)
        return plan_cures(found, await self._repairing.offers(names, say=self._job.say), self._tried)

    def _end_repair(self) -> None:
        broken = self._job.broken
        if not broken:
            self._job.succeed()
            return
        names = ", ".join(model.name for model in broken)
        why = broken[0].reason if len(broken) == 1 else "`broken` has the reason of each."
        self._job.fail(NotRepaired(f"Not repaired: {names}. {why}"))

    async def _read(self) -> tuple[Path, StoreListing]:
        return await self._store.call(lambda folder: (folder, read_store(folder)))

    async def _check(self, folder: Path, layer: Layer) -> Fault | None:
        progress = self._job.progress
        self._job.say(f"verifying {shown_digest(layer.digest)}")
        progress.begin(layer, self._clock.mono())
        seen = await self._hasher.look(
            folder, layer, lambda n_bytes: progress.note(n_bytes, self._clock.mono())
        )
        progress.end(self._clock.mono())
        return fault_of(layer, seen)

    def _tell(self, found: Findings, hopeless: Mapping[str, str] | None = None) -> None:
        self._job.broken = broken_models(found, self._job.model, hopeless=hopeless)
