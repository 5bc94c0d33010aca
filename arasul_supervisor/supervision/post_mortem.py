"""How a generation ended: noted in the snapshot, told in the log, and explained by its last lines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision import exits, ports
from arasul_supervisor.supervision.snapshot import ExitReport, State
from arasul_supervisor.supervision.wiring import Explained

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.board import Board
    from arasul_supervisor.supervision.child import ExitStatus
    from arasul_supervisor.supervision.own_part import OwnPart
    from arasul_supervisor.supervision.snapshot import Failure
    from arasul_supervisor.supervision.wiring import EngineWiring

_LATER_S: Final = 0.05  # what is found out then decides nothing, and the next engine starts meanwhile


class PostMortem:
    """Writes the exit report of each generation. Works for the engine's owner, in its turn."""

    def __init__(
        self,
        wiring: EngineWiring,
        port: int,
        *,
        board: Board,
        clock: Clock,
        log: EventLog,
        post: Callable[[Explained], None],
        begin: Callable[[Coroutine[None, None, None]], object],
        take_oom_kills: Callable[[], int],
    ) -> None:
        """Take the parts.

        :param take_oom_kills: how many processes the kernel has ended for want of memory since it was last asked
        :param post: puts a finding at the end of the owner's queue
        :param begin: starts a task that the owner keeps and awaits
        """
        self._wiring, self._port, self._board = wiring, port, board
        self._clock, self._log, self._post, self._begin = clock, log, post, begin
        self._take_oom_kills = take_oom_kills

    def of_failed_spawn(self, failure: Failure) -> None:
        """Note a start that made no process."""
        self._note(None, failure.sentence, event="engine_not_started")
        self._board.change(failure=failure)

    def of_generation(self, status: ExitStatus | None, part: OwnPart) -> None:
        """Note how a generation ended, and read its last lines: now where they decide, else after the next spawn.

        :param part: our own in its end
        """
        seen = self._board.snapshot
        oom_kills = self._take_oom_kills() if exits.may_be_oom_kill(status, part.told) else 0
        reason = exits.exit_sentence(status, part.told, is_oom_kill=oom_kills > 0)
        report = self._note(status, reason, oom_kills=oom_kills, was_asked=part.was_asked)
        self._board.change(failure=None)
        if seen.ready_mono is None and seen.state is State.BACKOFF:
            self._explain(report, timed_out=part.told is not None)
        else:
            asyncio.get_running_loop().call_later(_LATER_S, self._read_later, report.generation)

    def add(self, explained: Explained) -> None:
        """Put what was found out into the snapshot, unless a later generation has ended meanwhile."""
        report = self._board.snapshot.last_exit
        if report is None or report.generation != explained.generation:
            return
        if explained.log_tail:
            self._board.change(last_exit=replace(report, log_tail=explained.log_tail))
        if explained.failure is not None and self._board.snapshot.failure is not None:
            self._board.change(failure=explained.failure)

    def _note(
        self,
        status: ExitStatus | None,
        reason: str,
        *,
        oom_kills: int = 0,
        was_asked: bool = False,
        event: str = "engine_exited",
    ) -> ExitReport:
        seen = self._board.snapshot
        began = seen.started_mono if seen.started_mono is not None else self._clock.mono()
        report = ExitReport(
            generation=seen.generation,
            code=status.code if status else None,
            signal=status.signal if status else None,
            reason=reason,
            at=self._clock.wall(),
            ran_s=round(self._clock.mono() - began, 3),
            is_oom_kill=oom_kills > 0,
            was_asked=was_asked,
        )
        self._board.change(
            last_exit=report,
            pid=None,
            is_frozen=False,
            missed_beats=0,
            oom_kills=seen.oom_kills + oom_kills,
        )
        self._log.info(
            event,
            pid=seen.pid,
            generation=report.generation,
            code=report.code,
            signal=report.signal,
            reason=reason,
            ran_s=report.ran_s,
        )
        return report

    def _explain(self, report: ExitReport, *, timed_out: bool) -> None:
        lines = tuple(self._wiring.tail(report.generation))
        failure = exits.start_failure(self._wiring.explain(lines), report.reason, lines, timed_out=timed_out)
        self._board.change(failure=failure, last_exit=replace(report, log_tail=lines))
        self._log.warning("engine_start_failed", code=failure.code, reason=failure.sentence)
        if failure.code == "port_in_use":
            self._begin(self._name_holder(report.generation, failure))

    async def _name_holder(self, generation: int, failure: Failure) -> None:
        holder = await asyncio.to_thread(ports.holder_of_port, self._port)
        self._post(Explained(generation, exits.with_holder(failure, self._port, holder)))

    def _read_later(self, generation: int) -> None:
        self._post(Explained(generation, log_tail=tuple(self._wiring.tail(generation))))
