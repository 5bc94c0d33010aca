"""`/api/logs`: the engine's recent lines, from memory."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.clock import rfc3339
from arasul_supervisor.errors import BadInput
from arasul_supervisor.logs.meaning.outcomes import OUTCOMES

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.logs.engine_log import EngineLog

BOUND_S: Final = 5.0  # 100 ms is the promise; on a board that is busy a late page is better than none
MAX_LINES: Final = 5000
SEQ: Final = re.compile(r"[0-9]{1,18}")
CLOCK: Final = r"([01]\d|2[0-3]):[0-5]\d"
INSTANT: Final = (
    rf"[12]\d{{3}}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]{CLOCK}:[0-5]\d(\.\d{{1,9}})?([Zz]|[+-]{CLOCK})"
)

Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_LINES)]
Level = Literal["debug", "info", "warning", "error"]
Outcome = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"enum": list(OUTCOMES)})]
Generation = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Since = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^([0-9]{{1,18}}|{INSTANT})$", description="a `seq`, or an instant: 2026-11-23T15:04:05Z"
    ),
]


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines. `level` means this loud or louder; `since` a `seq` to go on from, or an instant."""

    lines: Count = 100
    level: Level | None = None
    outcome: Outcome | None = None
    generation: Generation | None = None
    since: Since | None = None


@dataclass(frozen=True, slots=True)
class LogLineView:
    """One line of the engine."""

    seq: int
    at: str | None
    generation: int
    level: str
    outcome: str | None
    text: str


@dataclass(frozen=True, slots=True)
class LogsView:
    """Lines, newest last. `next` is the `since` that continues; `dropped` lines came and went in between.

    Null: an unknown number of them, for the daemon was started anew.
    """

    lines: tuple[LogLineView, ...]
    next: int
    dropped: int | None


class Logs:
    """Shows what the engine's log keeps in memory."""

    def __init__(self, engine_log: EngineLog) -> None:
        self._engine_log = engine_log

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (
            Route(
                "GET",
                "/api/logs",
                self.logs,
                "The engine's recent lines",
                {200: LogsView},
                bound_s=BOUND_S,
                query=LogQuery,
            ),
        )

    async def logs(self, call: Call) -> Reply:
        """The lines that are asked for. 5,000 of them cost 40 ms: made in a thread, they hold up no probe."""
        query = call.query_as(LogQuery)
        if query.outcome is not None:
            _check_outcome(query.outcome)
        return Reply(await asyncio.to_thread(self._page, query))

    def _page(self, query: LogQuery) -> bytes:
        page = self._engine_log.lines(
            query.lines,
            level=query.level,
            outcome=query.outcome,
            generation=query.generation,
            since=_since(query.since),
        )
        instants = {at: rfc3339(at) for at in {line.at for line in page.lines}}  # few: one for each block
        lines = tuple(
            LogLineView(line.seq, instants[line.at], line.generation, line.level, line.outcome, line.text)
            for line in page.lines
        )
        return msgspec.json.encode(LogsView(lines, page.next, page.dropped))


def _check_outcome(outcome: str) -> None:
    """An empty page for a mistyped word would read like good news."""
    if outcome in OUTCOMES:
        return
    import difflib  # only here: the idle daemon does without

    nearest = difflib.get_close_matches(outcome, OUTCOMES, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"it is one of {', '.join(OUTCOMES)}."
    raise BadInput(f"'outcome' in the query is not known: {hint}", fields={"field": "outcome"})


def _since(text: str | None) -> int | float | None:
    """A `seq` as int, an instant as seconds since the epoch in float: that is how the log tells them apart."""
    if text is None:
        return None
    if SEQ.fullmatch(text):
        return int(text)
    seconds, fraction, zone = re.fullmatch(r"(.{19})(\.\d+)?(.+)", text).groups()  # type: ignore[union-attr]  # its pattern was checked
    try:  # Python 3.10 reads only 3 or 6 digits of a second, and no Z
        whole = datetime.fromisoformat(f"{seconds}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise BadInput(
            "'since' in the query is a day that does not exist.", fields={"field": "since"}
        ) from error
    return whole.timestamp() + float(fraction or 0)
