"""The one task of this room: looks, understands, and does what the case book says."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import IncidentNotFound
from arasul_supervisor.healing.diagnosis.diagnosis import diagnose
from arasul_supervisor.healing.diagnosis.gpu_rules import GpuWatch, forbidden_cures
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.history.deaths import DeathWatch
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.incidents.incident_store import MAX_INCIDENTS
from arasul_supervisor.healing.incidents.incident_words import figures, what_happened
from arasul_supervisor.healing.treatment.casebook import CaseBook, Closed, Opened, Ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.aftermath.engine_ends import EngineEnds
    from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedBook
    from arasul_supervisor.healing.aftermath.poison import CrashBook
    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.incidents.incident import Incident
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook
    from arasul_supervisor.healing.looking.observer import Observer
    from arasul_supervisor.healing.looking.probing import Probing
    from arasul_supervisor.healing.treatment.casebook import Event
    from arasul_supervisor.healing.treatment.cures import Cures
    from arasul_supervisor.healing.treatment.home import Home
    from arasul_supervisor.healing.treatment.memory_keeper import MemoryKeeper

FOLDED_S: Final = 3600.0
_OUTAGES: Final = frozenset(
    {Kind.ENGINE_FROZEN, Kind.RUNNER_STUCK, Kind.LOAD_STUCK, Kind.LOAD_DIED, Kind.SCHEDULER_STUCK}
)
"""Somebody waits for each of these; of a frozen runner the open requests tell."""
FAREWELL_S: Final = 10.0
"""Beyond the stop time-out and the start-up time-out of a restart: for both to be seen."""


class Healer:
    """Owns what is known of the engine's health, and the cases."""

    def __init__(
        self,
        observer: Observer,
        cures: Cures,
        *,
        incidents: IncidentBook,
        ends: EngineEnds,
        loaded: LoadedBook,
        crashes: CrashBook,
        memory: MemoryKeeper,
        probing: Probing,
        home: Home,
        limits: Limits,
        mode: str,
        restart_s: float,
        is_wanted: Callable[[], bool],
        clock: Clock,
        log: EventLog,
    ) -> None:
        """Look at nothing yet.

        :param mode: `off`, `observe` or `act`
        :param is_wanted: whether the operator wants the engine up
        :param restart_s: how long the engine's stop and start may take together
        """
        self._observer, self._cures, self._incidents, self._ends = observer, cures, incidents, ends
        self._loaded, self._crashes, self._memory, self._probing = loaded, crashes, memory, probing
        self._home, self._limits, self._mode = home, limits, mode
        self._is_wanted, self._clock, self._log = is_wanted, clock, log
        self._history, self._gpu, self._deaths = History(), GpuWatch(), DeathWatch()
        self._book = CaseBook(restart_s + FAREWELL_S, is_acting=mode == "act")
        self._incident_of: dict[str, str] = {}  # by the subject of the case
        self._is_serving: dict[str, bool] = {}  # whether nobody was kept waiting, by the same
        self._away_s = 0.0

    @property
    def history(self) -> History:
        """What is known now."""
        return self._history

    @property
    def is_acting(self) -> bool:
        """Whether it cures, and does not only look."""
        return self._mode == "act"

    def remember_exits(self) -> None:
        """Earlier lives left for the GPU too: that counts against this one, or it would never end."""
        now_mono, now_wall = self._clock.mono(), self._clock.wall()
        for incident in self._incidents.newest_first(MAX_INCIDENTS):
            for left_at in _exits_in(incident):
                self._book = self._book.with_exit(now_mono - max(0.0, now_wall - left_at))

    def gpu_verdicts(self) -> tuple[Verdict, ...]:
        """What is wrong with the GPU now."""
        look = self._history.look
        return self._gpu.verdicts(look.now_mono) if look else ()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.take_turn()
            except Exception as error:  # a fault of ours must end neither the daemon nor the healing
                self._tell(error)
            await asyncio.sleep(self._limits.period_s)

    async def take_turn(self) -> None:
        """One look, and all that follows from it."""
        look = await self._observer.look(self._history)
        self._history = self._history.after(look, away_s=self._away_s)
        self._loaded.see(look)
        if look.models.value is not None:
            blobs = frozenset().union(*look.models.value.blobs.values())
            self._crashes.saw_loaded(blobs, now_mono=look.now_mono)
        self._gpu = self._gpu.after(look, self._history.step_s)
        self._deaths = self._deaths.after(self._history, ended_by_us=self._cures.ended_runners)
        if self._mode == "off":
            self._memory.see(self._history)
            return
        self._probing.take_turn(self._history)
        turn = self._book.after(self._verdicts(), self._history, forbidden=self.forbidden)
        self._book = turn.book
        began_mono = self._clock.mono()
        try:
            for event in turn.events:
                await self._try(event)
            await self._memory.take_turn(self._history, is_acting=self.is_acting, forbidden=self.forbidden)
        finally:
            self._away_s = self._clock.mono() - began_mono

    async def close(self) -> None:
        """Let go of what the looks hold."""
        await self._probing.close()
        await self._observer.close()

    def _verdicts(self) -> tuple[Verdict, ...]:
        """All that is wrong now."""
        return (
            *diagnose(self._history, self._limits),
            *self._probing.verdicts(),
            *self.gpu_verdicts(),
            *self._deaths.verdicts(self._history),
        )

    @property
    def forbidden(self) -> Mapping[Cure, str]:
        """What must not be done now, each with the reason."""
        gpu = self._history.look.gpu if self._history.look else None
        state = gpu.state if gpu else "none"
        reasons = dict.fromkeys(forbidden_cures(state), f"a GPU in state {state} forbids it")
        told = {cure: f"{cure.value} is not tried: {why}" for cure, why in reasons.items()}
        if not self._home.can_start_anew and Cure.EXIT not in told:
            told[Cure.EXIT] = f"leaving would not bring it back here. {self._home.remedy}"
        if not self._is_wanted() and Cure.EXIT not in told:
            told[Cure.EXIT] = "an operator stopped Ollama, and a new start of the daemon would start it"
        return told

    async def _try(self, event: Event) -> None:
        try:
            await self._do(event)
        except Exception as error:  # the book takes all of this turn for done: the others must be
            self._tell(error)

    async def _do(self, event: Event) -> None:
        verdict = event.verdict
        if isinstance(event, Opened):
            self._open(verdict, event.cure)
        elif isinstance(event, Ordered):
            incident_id = self._note_step(event)
            if event.cure is Cure.RESTART_ENGINE:
                self._ends.expect_restart(self._history.generation, restored_in=incident_id)
            await self._cures.apply(event.cure, verdict, self._history)
        else:
            self._close(event)

    def _note_step(self, event: Ordered) -> str:
        """The incident of the case, with this step in it; another where it had to make room for so many others."""
        verdict, told = event.verdict, event.why or event.verdict.evidence
        try:
            self._incidents.add_step(self._incident_of[verdict.subject], event.cure, told)
        except IncidentNotFound:
            self._open(verdict, event.cure)
            self._incidents.add_step(self._incident_of[verdict.subject], event.cure, told)
        return self._incident_of[verdict.subject]

    def _open(self, verdict: Verdict, cure: Cure) -> None:
        subject = verdict.subject
        runner = self._history.runners.get(verdict.runner) if verdict.runner else None
        is_asked = runner is not None and bool(runner.look.connections)
        self._is_serving[subject] = verdict.kind not in _OUTAGES and not is_asked
        before = self._incidents.latest(verdict.kind, verdict.model)
        if before is not None and self._is_more_of(before):
            self._incidents.repeat(before.id, self._clock.wall(), evidence=verdict.evidence)
            self._incident_of[subject] = before.id
            return
        self._incident_of[subject] = self._incidents.open(
            verdict.kind,
            what=what_happened(verdict),
            evidence=verdict.evidence,
            action=cure,
            model=verdict.model,
            generation=self._history.generation,
            log_tail=self._cures.log_tail(self._history.generation),
            before=figures(self._history, verdict),
        )

    def _is_more_of(self, incident: Incident) -> bool:
        """Whether what comes again is told in the record of the last time: what nobody could do anything about."""
        is_recent = self._clock.wall() - incident.last_at <= FOLDED_S
        return is_recent and incident.result in (Result.GAVE_UP.value, Result.NOTED.value)

    def _close(self, event: Closed) -> None:
        subject = event.verdict.subject
        was_out = not self._is_serving.pop(subject, True)
        is_over = was_out and event.result in ("cured", "recovered")
        self._incidents.close(
            self._incident_of.pop(subject),
            result=Result(event.result),
            detail=event.detail,
            downtime_s=round(event.ill_s, 3) if is_over else None,
            after=figures(self._history, event.verdict),
        )

    def _tell(self, error: Exception) -> None:
        self._log.error("healing_failed", traceback="".join(traceback.format_exception(error)))


def _exits_in(incident: Incident) -> tuple[float, ...]:
    """When the daemon left for it, in epoch seconds; an exit that was only observed or waited for was none."""
    if incident.kind == Kind.ASKED_FOR.value:
        return (incident.at,) if incident.action == Cure.EXIT.value else ()
    return tuple(step.at for step in incident.steps if step.action == Cure.EXIT.value)
