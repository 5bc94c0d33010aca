"""Each end of the engine that nobody asked for: an incident, a suspicion, and what is loaded again afterwards."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import IncidentNotFound
from arasul_supervisor.healing.aftermath.poison import Ending, can_be_a_models_doing
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.supervision.snapshot import State, Wanted, why_down

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedBook
    from arasul_supervisor.healing.aftermath.poison import CrashBook
    from arasul_supervisor.healing.aftermath.restoring import RestoreReport, Restoring
    from arasul_supervisor.healing.aftermath.sentencing import Sentencing
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook
    from arasul_supervisor.healing.incidents.incident_words import Figures
    from arasul_supervisor.supervision.snapshot import ExitReport, Snapshot

_KEPT_RESTORES: Final = 8
SHORT_LIFE_S: Final = 10.0


class EngineEnds:
    """Follows the engine's snapshots; all it does is done within one turn of the loop."""

    def __init__(
        self,
        incidents: IncidentBook,
        *,
        loaded: LoadedBook,
        crashes: CrashBook,
        sentencing: Sentencing,
        restoring: Restoring | None,
        tail: Callable[[int], Sequence[str]],
        figures: Callable[[], Figures],
        clock: Clock,
    ) -> None:
        """Take the parts.

        :param restoring: None: nothing is loaded again
        :param tail: the last lines of a generation, redacted, also those that nobody has read yet
        :param figures: the witnesses as last looked at
        """
        self._incidents, self._loaded, self._crashes = incidents, loaded, crashes
        self._sentencing, self._restoring, self._tail, self._clock = sentencing, restoring, tail, clock
        self._figures = figures
        self._seen_exit = 0
        self._was_ready = 0
        self._open: dict[str, str] = {}  # incident by the kind of what has not been got over
        self._down_since_mono: float | None = None
        self._expected: tuple[int, str | None] | None = None
        self._restored_in: dict[int, str] = {}  # incident by the generation that died

    def expect_restart(self, generation: int, *, restored_in: str | None) -> None:
        """A cure is about to end that generation; it may not come to that, and later ends are none of its doing.

        :param restored_in: the incident that is told what was loaded again; None: nothing is, there is no room for it
        """
        self._expected = (generation, restored_in)

    def follow(self, seen: Snapshot) -> None:
        """One snapshot of the engine."""
        if seen.ready_mono is not None:
            self._was_ready = max(self._was_ready, seen.generation)
        report = seen.last_exit
        if report is not None and report.generation > self._seen_exit:
            self._seen_exit = report.generation
            self._note_end(report, seen)
        elif report is not None and report.log_tail:
            self._add_tail(report)
        if self._open and seen.generation > self._seen_exit and seen.is_answering:
            self._note_over(Result.CURED, f"Generation {seen.generation} answers.")
        elif self._open and seen.wanted is Wanted.DOWN and seen.state is State.STOPPED:
            self._note_over(Result.FAILED, "Ollama was stopped on request before it answered again.")
        elif self._open and seen.state is State.FATAL and seen.gave_up:
            self._note_over(Result.GAVE_UP, why_down(seen))

    def told_restored(self, report: RestoreReport) -> None:
        """What was loaded again belongs to the crash, or to the cure."""
        incident_id = self._restored_in.pop(report.died_generation, None)
        if incident_id is not None:
            with suppress(IncidentNotFound):  # so much has happened since that its record has made room
                self._incidents.add_step(incident_id, Cure.NONE, report.sentence)

    def _note_end(self, report: ExitReport, seen: Snapshot) -> None:
        self._add_missing_tails()
        died_mono = self._clock.mono()
        at_death = self._loaded.at_death(report.generation, died_mono=died_mono)
        if report.was_asked:
            generation, told_in = self._expected or (report.generation, None)
            belongs_to = told_in if generation == report.generation else None
        else:
            belongs_to = self._open_incident(report, seen, died_mono)
            lines = tuple(self._tail(report.generation)) if can_be_a_models_doing(report) else ()
            ending = Ending(report, lines, at_death.loading, at_death.active)
            found = self._crashes.note(ending, died_mono=died_mono)
            if found is not None:
                self._sentencing.sentence(found, generation=report.generation)
        if belongs_to is not None and self._restoring is not None:
            kept = list(self._restored_in.items())[1 - _KEPT_RESTORES :]
            self._restored_in = {**dict(kept), report.generation: belongs_to}
            self._restoring.begin(at_death.loaded, died_generation=report.generation)

    def _open_incident(self, report: ExitReport, seen: Snapshot, died_mono: float) -> str:
        """The incident that this end began with: what was loaded then may come back after many starts.

        A start that fails like the one before is folded into it: a crash loop must not push all else out.
        """
        kind = Kind.ENGINE_CRASHED if report.generation <= self._was_ready else Kind.START_FAILED
        known = self._open.get(kind.value)
        if known is not None and kind is Kind.START_FAILED:
            self._incidents.repeat(known, report.at)
            return next(iter(self._open.values()))
        if self._down_since_mono is None:
            self._down_since_mono = died_mono
        if known is not None:
            self._close(kind, Result.FAILED, "It ended again before it answered for long.")
        reason = _as_sentence(report.reason)
        failure = _as_sentence(seen.failure.sentence) if seen.failure else ""
        evidence = f"{reason} {failure}" if failure not in ("", reason) else reason
        self._open[kind.value] = self._same_as_before(kind, evidence, report) or self._incidents.open(
            kind,
            what="Ollama ended by itself." if kind is Kind.ENGINE_CRASHED else "Ollama did not start.",
            evidence=evidence,
            action=Cure.RESTART_ENGINE,
            generation=report.generation,
            log_tail=report.log_tail,
            before=self._figures(),
        )
        return next(iter(self._open.values()))

    def _same_as_before(self, kind: Kind, evidence: str, report: ExitReport) -> str | None:
        """The record of the same end a moment ago: an engine that gets ready and dies, again and again."""
        before = self._incidents.latest(kind, None)
        if before is None or before.evidence != evidence or report.at - before.last_at > SHORT_LIFE_S:
            return None
        self._incidents.repeat(before.id, report.at)
        return before.id

    def _add_tail(self, report: ExitReport) -> None:
        for incident_id in self._open.values():
            incident = self._incidents.get(incident_id)
            if incident.generation == report.generation and not incident.log_tail:
                self._incidents.set_log_tail(incident_id, report.log_tail)

    def _add_missing_tails(self) -> None:
        """The report tells the last lines a while after the end: what comes next may come before them."""
        for incident_id in self._open.values():
            incident = self._incidents.get(incident_id)
            if incident.generation is not None and not incident.log_tail:
                self._incidents.set_log_tail(incident_id, self._tail(incident.generation))

    def _note_over(self, result: Result, detail: str) -> None:
        self._add_missing_tails()
        for kind in (Kind.ENGINE_CRASHED, Kind.START_FAILED):
            self._close(kind, result, detail)
        self._down_since_mono = None

    def _close(self, kind: Kind, result: Result, detail: str) -> None:
        incident_id = self._open.pop(kind.value, None)
        if incident_id is not None:
            since_mono, now_mono = self._down_since_mono, self._clock.mono()
            down_s = None if since_mono is None else round(now_mono - since_mono, 3)
            self._incidents.close(
                incident_id, result=result, detail=detail, after=self._figures(), downtime_s=down_s
            )


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
