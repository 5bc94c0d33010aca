"""Puts this room together: one call for the composition root."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.healing.aftermath.engine_ends import EngineEnds
from arasul_supervisor.healing.aftermath.load_progress import LoadProgress
from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedBook
from arasul_supervisor.healing.aftermath.own_loads import OwnLoads
from arasul_supervisor.healing.aftermath.poison import TAIL_LINES, CrashBook
from arasul_supervisor.healing.aftermath.quarantine import Quarantine
from arasul_supervisor.healing.aftermath.restore_source import Source, loads_as_it_was
from arasul_supervisor.healing.aftermath.restoring import Restoring
from arasul_supervisor.healing.aftermath.sentencing import Sentencing
from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.healer import Healer
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import IncidentStore
from arasul_supervisor.healing.incidents.incident_words import figures
from arasul_supervisor.healing.looking.loaded_models import LoadedModels
from arasul_supervisor.healing.looking.observer import Observer
from arasul_supervisor.healing.looking.probing import Probing
from arasul_supervisor.healing.looking.runner_questions import RunnerQuestions
from arasul_supervisor.healing.treatment.asked_cures import AskedCures
from arasul_supervisor.healing.treatment.cures import Cures
from arasul_supervisor.healing.treatment.home import home_of
from arasul_supervisor.healing.treatment.memory_keeper import MemoryKeeper
from arasul_supervisor.supervision.process_reading import RunnerReader
from arasul_supervisor.supervision.snapshot import Wanted
from arasul_supervisor.telemetry.machine import read_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.ollama.residency import Residency
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.telemetry.sampler import Sampler

LOOK_S: Final = 3.0
_TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Patient:
    """The engine, and whom to ask about it."""

    engine: Engine
    engine_log: EngineLog
    residency: Residency
    catalogue: Catalogue
    store: StoreReader
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon knows of itself.

    `marker`: in the environment of all that this life starts. `environ`: as it was at the launch. `is_owned`: children
    that somebody here started on purpose. `leave`: ends the daemon with an exit code.
    """

    environ: Mapping[str, str]
    marker: str
    is_owned: Callable[[int], bool]
    leave: Callable[[int], None]
    load_options: Callable[[], Mapping[str, int]]
    cpu_wish: str | None


class Healing:
    """The room from outside: its task, and what others may see and ask of it."""

    def __init__(
        self, settings: Settings, patient: Patient, around: Surroundings, *, clock: Clock, log: EventLog
    ) -> None:
        """Wire the parts; nothing is looked at, and nothing read yet."""
        self.incidents = IncidentBook(IncidentStore(settings.state_dir / "incidents"), clock=clock, log=log)
        self.quarantine = Quarantine(settings.state_dir / "quarantine.json", log)
        limits = Limits(settings.stuck_s, settings.silent_s, settings.load_stuck_s, settings.low_memory_s)
        loaded, crashes, questions = LoadedBook(), CrashBook(), RunnerQuestions(clock)
        self.own_loads = OwnLoads()
        self._patient = patient
        self._restoring = self._make_restoring(around, clock=clock, log=log) if settings.restore else None
        cures = Cures(
            patient.engine,
            patient.residency,
            cancel_load=self._cancel_load,
            leave=around.leave,
            tail=lambda generation: patient.engine_log.tail(_TAIL_LINES, generation=generation),
            log=log,
        )
        self._sentencing = Sentencing(
            self.quarantine, self.incidents, store=patient.store, clock=clock, log=log
        )
        self._ends = EngineEnds(
            self.incidents,
            loaded=loaded,
            crashes=crashes,
            sentencing=self._sentencing,
            restoring=self._restoring,
            tail=self._last_lines,
            figures=lambda: figures(self.healer.history),
            clock=clock,
        )
        self._memory = MemoryKeeper(cures, self.incidents, ends=self._ends, limits=limits)
        observer = Observer(
            patient.engine,
            patient.engine_log,
            reader=RunnerReader(is_owned=around.is_owned),
            marker=around.marker,
            engine_port=settings.engine_port,
            questions=questions,
            models=LoadedModels(patient.residency, patient.store, clock),
            sampler=patient.sampler,
            limits=limits,
            clock=clock,
            cpu_wish=around.cpu_wish,
            own_load=self._own_load,
        )
        self.healer = Healer(
            observer,
            cures,
            incidents=self.incidents,
            ends=self._ends,
            loaded=loaded,
            crashes=crashes,
            memory=self._memory,
            probing=Probing(questions, limits, is_allowed=settings.probe),
            home=home_of(
                around.environ,
                pid=os.getpid(),
                parent_pid=os.getppid(),
                init=_name_of_process_1(),
                is_container=read_machine(settings.sysroot).is_container,
            ),
            limits=limits,
            mode=settings.heal,
            restart_s=settings.stop_timeout_s + settings.startup_timeout_s,
            is_wanted=lambda: patient.engine.snapshot.wanted is Wanted.UP,
            clock=clock,
            log=log,
        )
        self.asked = AskedCures(
            patient.engine,
            self.healer,
            incidents=self.incidents,
            ends=self._ends,
            limits=limits,
            leave=around.leave,
            cancel_loads=self._stop_restoring,
            tail=cures.log_tail,
            log=log,
        )
        self._task: asyncio.Task[Any] | None = None  # Any: the daemon's, whose result is nobody's
        self._unsubscribe: Callable[[], None] | None = None

    async def restore(self) -> None:
        """Take up what earlier lives noted."""
        await self.incidents.restore()
        await self.quarantine.restore()
        self.healer.remember_exits()

    async def run(self) -> None:
        """Look until cancelled."""
        self._task = asyncio.current_task()
        self._unsubscribe = self._patient.engine.subscribe(self._ends.follow)
        self._ends.follow(self._patient.engine.snapshot)
        await self.healer.run()

    async def close(self) -> None:
        """The daemon ends: nothing is loaded any more, and what was noted is written."""
        if self._task is not None:
            await end_task(self._task)  # it must not go on over parts that are closed
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._restoring is not None:
            await self._restoring.close()
        await self._sentencing.close()
        await self.healer.close()
        await self.quarantine.close()
        await self.incidents.settle()

    def _make_restoring(self, around: Surroundings, *, clock: Clock, log: EventLog) -> Restoring:
        patient = self._patient

        async def is_installed(name: str) -> bool:
            patient.catalogue.invalidate()  # it may have been removed by Ollama's own API
            await patient.catalogue.models(timeout_s=LOOK_S)
            return patient.catalogue.known_model(name) is not None

        async def loaded() -> Sequence[LoadedModel]:
            return await patient.residency.loaded(timeout_s=LOOK_S)

        return Restoring(
            patient.engine,
            Source(
                load=loads_as_it_was(patient.residency, around.load_options),
                loaded=loaded,
                is_installed=is_installed,
                mark=LoadProgress(patient.engine, patient.engine_log).mark,
            ),
            reason_against=self.quarantine.reason_for,
            is_memory_low=lambda: self._memory.is_low,
            told=lambda report: self._ends.told_restored(report),
            clock=clock,
            log=log,
        )

    def _stop_restoring(self, why: str) -> None:
        if self._restoring is not None:
            self._restoring.cancel(why)

    def _own_load(self) -> str | None:
        restored = self._restoring.own_load if self._restoring else None
        return restored or self.own_loads.current

    def _cancel_load(self, why: str) -> None:
        self.own_loads.end_all(why)
        self._stop_restoring(why)

    def _last_lines(self, generation: int) -> Sequence[str]:
        return self._patient.engine_log.tail(TAIL_LINES, generation=generation)


def _name_of_process_1() -> str | None:
    try:
        return Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return None
