"""Puts models that killed the engine into quarantine: under every name that their weights have on the disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import ArasulError
from arasul_supervisor.healing.diagnosis.verdicts import Kind
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.looking.loaded_models import read_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.aftermath.poison import Conviction
    from arasul_supervisor.healing.aftermath.quarantine import Quarantine
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook
    from arasul_supervisor.model_store.reader import StoreReader

STORE_S: Final = 5.0


class Sentencing:
    """Owns the tasks that look the names up: a model that dies while it loads has none that Ollama told."""

    def __init__(
        self,
        quarantine: Quarantine,
        incidents: IncidentBook,
        *,
        store: StoreReader,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._quarantine, self._incidents = quarantine, incidents
        self._store, self._clock, self._log = store, clock, log
        self._tasks: set[asyncio.Task[None]] = set()

    def sentence(self, found: Conviction, *, generation: int) -> None:
        """Quarantine it; returns at once."""
        task = asyncio.get_running_loop().create_task(self._sentence(found, generation), name="sentencing")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """The daemon ends."""
        for task in tuple(self._tasks):
            await end_task(task)

    async def _sentence(self, found: Conviction, generation: int) -> None:
        try:
            weights = await self._store.call(read_weights, timeout_s=STORE_S)
        except ArasulError as error:
            self._log.error("quarantine_failed", reason=error.sentence, blob=found.blob)
            told = f"Its name is not known, so that nothing is quarantined: {error.sentence}"
            self._note(found, (), generation, Result.FAILED, told)
            return
        names = sorted(name for name, blobs in weights.of_model.items() if found.blob in blobs)
        if not names:
            told = "It is not installed any more, so that nothing is quarantined."
            self._note(found, (), generation, Result.NOTED, told)
            return
        for name in names:
            reason = found.reason_for(names)
            self._quarantine.add(name, reason, crashes=found.crashes, at=self._clock.wall())
        lifted_by = f"`arasul-supervisor quarantine lift {names[0]}`"
        told = f"The daemon does not load it any more. {lifted_by} changes that."
        self._note(found, names, generation, Result.NOTED, told)

    def _note(
        self, found: Conviction, names: Sequence[str], generation: int, result: Result, detail: str
    ) -> None:
        incident_id = self._incidents.open(
            Kind.MODEL_QUARANTINED,
            what=f"{', '.join(names)} was quarantined." if names else "A model makes Ollama crash.",
            evidence=found.reason_for(names),
            model=names[0] if names else None,
            generation=generation,
        )
        self._incidents.close(incident_id, result=result, detail=detail)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("quarantine_failed", reason=repr(error))
