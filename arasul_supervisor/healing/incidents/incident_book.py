"""The book of incidents: all that is told of them is in memory, and follows on disk in the background."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.errors import IncidentNotFound
from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.healing.incidents.incident import (
    MAX_STEPS,
    MAX_TAIL_LINE_CHARS,
    MAX_TAIL_LINES,
    Incident,
    Result,
    Step,
)
from arasul_supervisor.healing.incidents.incident_store import MAX_INCIDENTS
from arasul_supervisor.healing.incidents.state_file import DISK_S, BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.diagnosis.verdicts import Kind
    from arasul_supervisor.healing.incidents.incident import Witnesses
    from arasul_supervisor.healing.incidents.incident_store import IncidentStore, StoredIncidents

CUT_MARK: Final = " [cut]"
DAEMON_ENDED: Final = "The daemon ended before it was known what became of this."


class IncidentBook:
    """The one owner of all incidents; the newest 200 are kept, and of those that ended the oldest go first.

    Nothing here waits for the disk. Where that cannot be written, what is in memory is lost with the daemon: told
    once, and tried again with the next change.
    """

    def __init__(
        self, store: IncidentStore, *, clock: Clock, log: EventLog, max_incidents: int = MAX_INCIDENTS
    ) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._max_incidents = max_incidents
        self._writer = BackgroundWriter("incidents", most=max_incidents, tell=self._tell_unwritten)
        self._by_id: dict[str, Incident] = {}  # oldest first
        self._last_stamp, self._last_number = "", 0

    async def restore(self) -> None:
        """Take up what earlier lives left. What was open then is of unknown outcome now."""
        try:
            stored = await self._writer.read(self._store.read)
        except OSError as error:
            self._tell_unread(f"{self._store.folder} cannot be read: {error.strerror}")
            return
        if stored is None:
            self._tell_unread(f"{self._store.folder} was not read within {DISK_S:g} s")
            return
        self._take_up(stored)

    async def settle(self) -> None:
        """Write what is not on disk yet, within 0.5 s: the end of the book."""
        await self._writer.close()

    def open(
        self,
        kind: Kind,
        *,
        what: str,
        evidence: str,
        action: Cure = Cure.NONE,
        model: str | None = None,
        generation: int | None = None,
        log_tail: Sequence[str] = (),
        before: Witnesses | None = None,
    ) -> str:
        """Begin one, and tell its id.

        :param what: one sentence: what happened to what
        :param evidence: one sentence that names the witnesses, with figures
        :param log_tail: redacted lines of the engine; the last 20 are kept
        :param before: the witnesses when it was found
        """
        at = self._clock.wall()
        incident = Incident(
            id=self._fresh_id(at),
            kind=kind.value,
            at=at,
            what=what,
            evidence=evidence,
            action=action.value,
            last_at=at,
            model=model,
            generation=generation,
            log_tail=_tail(log_tail),
            witnesses_before=dict(before or {}),
        )
        self._by_id[incident.id] = incident
        self._make_room()
        self._write(incident)
        self._log.warning("incident_opened", **_told(incident))
        return incident.id

    def add_step(self, incident_id: str, action: Cure, detail: str) -> None:
        """Note one thing that was done, or that was only told (Cure.NONE); the newest 50 are kept.

        :raises IncidentNotFound: it is not in the book, or not any more
        """
        incident = self.get(incident_id)
        steps = (*incident.steps, Step(self._clock.wall(), action.value, detail))[-MAX_STEPS:]
        done = incident.action if action is Cure.NONE else action.value
        incident = self._change(incident, steps=steps, action=done)
        self._log.info("incident_step", **_told(incident), detail=detail)

    def set_log_tail(self, incident_id: str, log_tail: Sequence[str]) -> None:
        """Set what the engine said last, redacted; the last 20 lines are kept.

        :raises IncidentNotFound: it is not in the book, or not any more
        """
        self._change(self.get(incident_id), log_tail=_tail(log_tail))

    def repeat(self, incident_id: str, at: float, *, evidence: str | None = None) -> None:
        """Fold an identical one into it, that happened at this instant (epoch seconds): it is open again.

        :raises IncidentNotFound: it is not in the book, or not any more
        """
        incident = self.get(incident_id)
        self._change(
            incident,
            count=incident.count + 1,
            last_at=at,
            result=Result.OPEN.value,
            ended_at=None,
            evidence=evidence or incident.evidence,
        )

    def close(
        self,
        incident_id: str,
        *,
        result: Result,
        detail: str,
        downtime_s: float | None = None,
        after: Witnesses | None = None,
    ) -> None:
        """Say what became of it.

        :param detail: one sentence: what proved it, or why no more is tried and what a person must do
        :param downtime_s: for how long it was not served; None: not known, or it was
        :param after: the witnesses that prove it
        :raises IncidentNotFound: it is not in the book, or not any more
        """
        self._end(
            self.get(incident_id),
            result,
            detail,
            downtime_s=downtime_s,
            witnesses_after=dict(after or {}),
            ended_at=self._clock.wall(),
        )

    def get(self, incident_id: str) -> Incident:
        """One of them.

        :raises IncidentNotFound: it is not in the book, or not any more
        """
        incident = self._by_id.get(incident_id)
        if incident is None:
            raise IncidentNotFound(
                f"No incident {incident_id[:64]!r} is known.",
                hint="GET /api/incidents lists the newest ones.",
            )
        return incident

    def latest(self, kind: Kind, model: str | None) -> Incident | None:
        """The newest of this kind about this model; None: about no model."""
        same = (one for one in reversed(self._by_id.values()) if (one.kind, one.model) == (kind.value, model))
        return next(same, None)

    def newest_first(self, limit: int, *, kind: str | None = None) -> tuple[Incident, ...]:
        """At most that many, of one kind or of all."""
        chosen = [one for one in reversed(self._by_id.values()) if kind in (None, one.kind)]
        return tuple(chosen[:limit])

    def _take_up(self, stored: StoredIncidents) -> None:
        if stored.troubles:
            self._tell_unread(
                f"{len(stored.troubles)} files in {self._store.folder} are left out, among them {stored.troubles[0]}"
            )
        earlier = {one.id: one for one in stored.incidents if one.id not in self._by_id}
        self._by_id = {**earlier, **self._by_id}
        self._make_room()
        for incident in earlier.values():
            if incident.is_open and incident.id in self._by_id:
                self._end(incident, Result.UNKNOWN, DAEMON_ENDED)

    def _fresh_id(self, at: float) -> str:
        """`20261129T081203Z-1`: the second, and a number that none of that second has had."""
        stamp = datetime.fromtimestamp(at, tz=timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        number = self._last_number + 1 if stamp == self._last_stamp else 1
        # an earlier life may have had it: a board whose clock has no battery lives the first minutes of 1970 often
        while f"{stamp}-{number}" in self._by_id:
            number += 1
        self._last_stamp, self._last_number = stamp, number
        return f"{stamp}-{number}"

    def _change(self, incident: Incident, **changes: Any) -> Incident:  # Any: fields of the incident
        changed = replace(incident, **changes)
        self._by_id[incident.id] = changed
        self._write(changed)
        return changed

    def _end(
        self,
        incident: Incident,
        result: Result,
        detail: str,
        **changes: Any,  # Any: fields of the incident
    ) -> None:
        incident = self._change(incident, result=result.value, detail=detail, **changes)
        tell = self._log.warning if result in (Result.FAILED, Result.GAVE_UP) else self._log.info
        tell("incident_closed", **_told(incident), detail=detail, downtime_s=incident.downtime_s)

    def _write(self, incident: Incident) -> None:
        self._writer.put(incident.id, lambda: self._store.write(incident))

    def _make_room(self) -> None:
        """An open one is only let go of when all are open, or its end could not be noted."""
        while len(self._by_id) > self._max_incidents:
            ended = (one.id for one in self._by_id.values() if not one.is_open)
            del self._by_id[next(ended, next(iter(self._by_id)))]

    def _tell_unread(self, what: str) -> None:
        self._log.warning("incidents_unread", sentence=f"{what}; incidents are told without these.")

    def _tell_unwritten(self, trouble: str) -> None:
        self._log.warning(
            "incidents_unwritten",
            sentence=f"{self._store.folder} {trouble}; incidents are told from memory, and lost with the daemon.",
        )


def _told(incident: Incident) -> dict[str, object]:
    """What the daemon's own log says of it; never the lines of the engine, which it has already."""
    names = ("id", "kind", "what", "evidence", "action", "result", "model")
    return {name: getattr(incident, name) for name in names}


def _tail(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        line if len(line) <= MAX_TAIL_LINE_CHARS else line[:MAX_TAIL_LINE_CHARS] + CUT_MARK
        for line in lines[-MAX_TAIL_LINES:]
    )
