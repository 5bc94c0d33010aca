"""The upper rungs of the ladder at a caller's wish: gpu/recover, cache/clear, session/reset.

A caller's word stands for certainty, so nothing is waited for; what the state of the GPU forbids stays forbidden.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.diagnosis import diagnose
from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Cure, Kind
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.incidents.incident_words import figures
from arasul_supervisor.healing.treatment.cures import EXIT_GPU_GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.aftermath.engine_ends import EngineEnds
    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.healer import Healer
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook
    from arasul_supervisor.supervision.engine import Engine

ANSWER_S: Final = 0.5
"""What the caller's answer gets to arrive before the daemon leaves."""
_SICK: Final = frozenset(
    {Kind.RUNNER_STUCK, Kind.RUNNER_FROZEN, Kind.LOAD_STUCK, Kind.STOPPING_STUCK, Kind.MODEL_DELETED}
)


class AskedCures:
    """Does what callers ask for, and keeps an incident of each wish that ended or restarted something."""

    def __init__(
        self,
        engine: Engine,
        healer: Healer,
        *,
        incidents: IncidentBook,
        ends: EngineEnds,
        limits: Limits,
        leave: Callable[[int], None],
        cancel_loads: Callable[[str], None],
        tail: Callable[[int], Sequence[str]],
        log: EventLog,
    ) -> None:
        """Take the hands.

        :param leave: ends the daemon with that exit code
        :param cancel_loads: ends what is being loaded again after a crash; takes the reason as a clause
        :param tail: the last lines of a generation, redacted
        """
        self._engine, self._healer, self._incidents = engine, healer, incidents
        self._ends, self._limits, self._leave, self._log = ends, limits, leave, log
        self._cancel_loads, self._tail = cancel_loads, tail

    def stop_restoring(self, wish: str) -> None:
        """Load nothing again after a crash: somebody wants the memory free."""
        self._cancel_loads(f"{wish} was asked for")

    async def end_sick_runners(self, wish: str) -> tuple[str, ...]:
        """End the runners that are certainly sick now; the names of the models that went with them, where known.

        :param wish: whose: `POST /api/cache/clear`
        """
        if not self._healer.is_acting:
            return ()
        sick = {one.runner: one for one in self._certain() if one.kind in _SICK and one.runner is not None}
        if not sick:
            return ()
        try:
            dead = await self._engine.end_runners(sick)
        except OSError as error:  # no descriptor is left
            self._log.error("runners_not_ended", reason=str(error))
            dead = frozenset()
        names = ", ".join(one.model or "a model" for one in sick.values())
        self._note(
            wish,
            Cure.END_RUNNER,
            " ".join(one.evidence for one in sick.values()),
            f"Ended {len(dead)} of {len(sick)} runners: {names}.",
        )
        return tuple(one.model for runner, one in sick.items() if one.model is not None and runner in dead)

    async def end_all_runners(self, wish: str, why: str) -> int:
        """End every runner; how many."""
        ended = await self._engine.kill_runners()
        if ended:
            self._note(wish, Cure.END_RUNNER, why, f"Ended {ended} model runners.")
        return ended

    def ask_restart(self, wish: str, why: str) -> str | None:
        """Have the engine restarted; None, or why it must not be, as a clause."""
        told = self._healer.forbidden.get(Cure.RESTART_ENGINE)
        if told is not None:
            refusal = told.removeprefix(f"{Cure.RESTART_ENGINE.value} is not tried: ")
            self._note(wish, Cure.NONE, why, f"Ollama is not started anew: {refusal}.")
            return refusal
        generation = self._engine.snapshot.generation
        self._ends.expect_restart(generation, restored_in=None)
        self._engine.ask_cure_restart(f"restarted for {wish}", generation=generation)  # a later stop wins
        self._note(wish, Cure.RESTART_ENGINE, why, "Ollama is started anew.")
        return None

    def leave_for_the_gpu(self, wish: str) -> str | None:
        """Leave, where that brings a lost GPU back; the sentence that says so, or None where it does not."""
        lost = next((one for one in self._healer.gpu_verdicts() if one.kind is Kind.GPU_UNREACHABLE), None)
        if lost is None or Cure.EXIT in self._healer.forbidden:
            return None
        told = (
            f"{lost.evidence} The daemon leaves with exit code {EXIT_GPU_GONE}, so that it is started anew."
        )
        self._note(wish, Cure.EXIT, lost.evidence, told)
        asyncio.get_running_loop().call_later(ANSWER_S, self._leave, EXIT_GPU_GONE)
        return told

    def _certain(self) -> tuple[Verdict, ...]:
        verdicts = diagnose(self._healer.history, self._limits)
        return tuple(one for one in verdicts if one.certainty is Certainty.CERTAIN)

    def _note(self, wish: str, cure: Cure, evidence: str, detail: str) -> None:
        history = self._healer.history
        incident_id = self._incidents.open(
            Kind.ASKED_FOR,
            what=f"{wish} was asked for.",
            evidence=evidence,
            action=cure,
            generation=history.generation,
            log_tail=self._tail(history.generation),
            before=figures(history),
        )
        self._incidents.close(incident_id, result=Result.NOTED, detail=detail)
