"""One life of the daemon: its parts built in order, wired, run, and ended in reverse.

The engine has been spawned already (first_start.py). Its owner comes first, then the heavy imports, then the API.
"""

from __future__ import annotations

import asyncio
import signal
from functools import cached_property
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.engine_limits import limits_of, policy_of
from arasul_supervisor.first_start import EXIT_ASKED, EXIT_CANNOT_RUN
from arasul_supervisor.logs.stdout import StdoutWriter, is_journal, log_format_for
from arasul_supervisor.process_ground import let_the_collector_pass_over_what_is_there
from arasul_supervisor.supervision.effects import EXIT_GAVE_UP
from arasul_supervisor.supervision.engine import Engine
from arasul_supervisor.supervision.notify import ADDRESS_VARIABLE, Notifier, watchdog_s
from arasul_supervisor.supervision.service_notices import ServiceNotices
from arasul_supervisor.supervision.snapshot import State
from arasul_supervisor.supervision.wiring import EngineWiring

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from arasul_supervisor.api.doorway import Doorway
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.first_start import FirstStart
    from arasul_supervisor.logs.daemon_log import DaemonLog
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.process_ground import EarlySignals
    from arasul_supervisor.services import Services
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.snapshot import Snapshot

_BEYOND_LADDER_S: Final = 1.0
"""Of the two seconds that the contract gives the daemon beyond ARASUL_STOP_TIMEOUT, one is the engine's."""
_FLUSH_S: Final = 0.5
_TAIL_LINES: Final = 20


class Daemon:
    """Everything of one life of the daemon, from the first spawn to the exit code."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        sock: socket.socket,
        *,
        first: FirstStart,
        early: EarlySignals,
        clock: Clock,
        log: DaemonLog,
    ) -> None:
        self._settings, self._environ, self._sock = settings, environ, sock
        self._first, self._early, self._clock, self._log = first, early, clock, log
        self._writer = StdoutWriter(
            log_format=log_format_for(settings.log_format),
            clock=self._clock,
            has_priorities=is_journal(environ),
        )
        self._notifier = Notifier(environ.get(ADDRESS_VARIABLE, ""))
        self._watchdog_s = watchdog_s(environ)
        self._doorway: Doorway | None = None
        self._services: Services | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._followed = self._known_version_of = 0

    async def main(self) -> int:
        """Launch, serve until somebody says to leave, and end everything in reverse."""
        loop = asyncio.get_running_loop()
        self._left: asyncio.Future[int] = loop.create_future()
        self._hurried: asyncio.Future[None] = loop.create_future()
        first, self._engine = self._first, self._make_engine()
        self._listen(loop)
        self._notices = ServiceNotices(self._notifier, self._engine, watchdog_s=self._watchdog_s)
        self._engine.subscribe(self._follow)
        if self._notifier.is_listened_to:
            self._engine.subscribe(self._notices.follow)
        code = EXIT_GAVE_UP
        try:
            # First of all: what was spawned must have its owner, whatever fails from here on.
            owner = self._begin("engine", self._engine.run(first.survivors, first=first.started))
            first.guardian.watch(loop)
            if self._notifier.is_listened_to:
                self._begin("service-notices", self._notices.run())
            begun = asyncio.ensure_future(self._engine.wait_until(_has_begun))
            # also when we are to leave already: what was spawned must have its owner, who alone can end it
            await asyncio.wait((begun, owner), return_when=asyncio.FIRST_COMPLETED)
            await end_task(begun)
            self._begin("engine-log", self._engine_log.run())
            await self._unless_left(self._serve())
            code = await self._left
        except Exception as error:  # it cannot be served: end by the rule, and say why
            self._log.exception("serving_failed", error)
            code = EXIT_CANNOT_RUN
        finally:
            await self._end()
            if self._engine.is_gone:  # else it is the guardian's: our exit tells it
                first.guardian.end(loop)
            first.spools.remove_unused()
            first.reaper.uninstall(loop)
            self._notifier.close()
            self._log.info("daemon_ended")
            if not self._log.is_started:
                self._log.flush_plain()
            await asyncio.to_thread(self._writer.close, timeout_s=_FLUSH_S)
        return code

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take all signals from now on; what was asked before is done now."""
        # Not by the loop's own way: its pipe, full in a storm of deaths, would lose them.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(
                number, lambda n, _frame: loop.call_soon_threadsafe(self._asked_to_end, signal.Signals(n))
            )
        loop.add_signal_handler(signal.SIGHUP, self._reopen_log)
        loop.add_signal_handler(signal.SIGUSR1, self._dump_state)
        # As PID 1 an unhandled one would be dropped, elsewhere it would end us without a word.
        loop.add_signal_handler(signal.SIGUSR2, self._log.info, "signal_ignored")
        self._first.reaper.install(loop)
        if self._early.asked is not None:
            self._asked_to_end(self._early.asked)

    def _make_engine(self) -> Engine:
        return Engine(
            EngineWiring(
                self._first.plan.prepare, _explain_exit, self._tail, self._leave, self._expect_deaths
            ),
            limits_of(self._settings),
            policy_of(self._settings),
            marker=self._first.marker,
            reaper=self._first.reaper,
            clock=self._clock,
            log=self._log,
        )

    @cached_property
    def _engine_log(self) -> EngineLog:
        """Made by the first who needs it, after the spawn: 20 ms, most of them for the rules by which it is read."""
        from arasul_supervisor.logs.engine_log import EngineLog
        from arasul_supervisor.logs.public_log import PublicLog

        settings, clock = self._settings, self._clock
        public = PublicLog(
            settings.log_file, max_bytes=settings.log_max_bytes, keep=settings.log_keep, clock=clock
        )
        made = EngineLog(public, self._writer, clock=clock, log=self._log)
        for spool in self._first.leftovers:
            made.resume(spool)
        return made

    def _tail(self, generation: int) -> tuple[str, ...]:
        """The last lines of a generation as they may be shown; none where its log cannot be read."""
        try:
            return self._engine_log.tail(_TAIL_LINES, generation=generation)
        except OSError as error:
            self._log.warning("log_tail_unread", error=str(error))
            return ()

    def _expect_deaths(self, generation: int, ended: int) -> None:
        self._engine_log.expect_runner_deaths(generation, later=ended)

    def _follow(self, seen: Snapshot) -> None:
        """Have the log of each generation followed, its end foreseen, and its version remembered."""
        if seen.pid is not None and seen.spool is not None and seen.generation > self._followed:
            self._followed = seen.generation
            self._engine_log.follow(seen.generation, seen.spool)
        if seen.state is State.STOPPING:
            self._engine_log.expect_end(seen.generation)
        if seen.ready_mono is not None and seen.generation > self._known_version_of:
            self._known_version_of = seen.generation
            self._first.plan.note_version(seen.engine_version)
            self._first.plan.make_ready_for(seen.generation + 1)

    async def _serve(self) -> None:
        """Import the heavy libraries beside the running loop, and open the management API."""
        settings = self._settings
        opened = await asyncio.to_thread(_import_doorway)
        self._doorway = await opened(settings, self._sock, self._log)
        started = await asyncio.to_thread(_import_services)
        self._log.start(
            self._writer, log_format=log_format_for(settings.log_format), level=settings.log_level
        )
        self._services = started(
            settings,
            self._engine,
            self._engine_log,
            doorway=self._doorway,
            plan=self._first.plan,
            gpu_memory=self._first.gpu_memory,
            reaper=self._first.reaper,
            environ=self._environ,
            marker=self._first.marker,
            leave=self._leave,
            clock=self._clock,
            log=self._log,
        )
        self._begin("telemetry", self._services.sampler.run())
        await self._services.serve()
        self._begin("healing", self._services.healing.run())
        let_the_collector_pass_over_what_is_there()
        self._log.info("api_ready", url=settings.url)
        self._notices.served()

    async def _end(self) -> None:
        """End the engine and the API side by side, then the rest, within the time that the contract gives."""
        limit_s = self._settings.stop_timeout_s + _BEYOND_LADDER_S
        self._notices.stopping(limit_s)
        ends: list[Awaitable[object]] = [self._engine.shut_down()]
        if (served := self._services or self._doorway) is not None:
            ends.append(served.close())
        ending = [asyncio.ensure_future(within(end, limit_s)) for end in ends]
        all_ended = asyncio.ensure_future(asyncio.wait(ending))
        await asyncio.wait((all_ended, self._hurried), return_when=asyncio.FIRST_COMPLETED)
        if not all_ended.done():
            self._engine.kill_now()
        for end in (*ending, all_ended):
            await end_task(end)
            if not end.cancelled() and (error := end.exception()) is not None:
                self._log.error("end_incomplete", error=repr(error))
        for task in reversed(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FLUSH_S)

    async def _unless_left(self, work: Awaitable[object]) -> None:
        """Wait for `work`, but no longer than until somebody says to leave."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._left), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await end_task(task)

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task that must not end by itself: if it fails, the daemon cannot keep its promises, and leaves."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._log.exception("task_failed", error, task=task.get_name())
        self._leave(EXIT_GAVE_UP)

    def _leave(self, code: int) -> None:
        if not self._left.done():
            self._left.set_result(code)

    def _asked_to_end(self, number: signal.Signals) -> None:
        if self._left.done():
            self._log.warning(
                "asked_again_to_end", signal=number.name, decision="the engine is killed at once"
            )
            self._engine.kill_now()
            if not self._hurried.done():
                self._hurried.set_result(None)
            return
        self._log.info("asked_to_end", signal=number.name)
        self._leave(EXIT_ASKED)

    def _reopen_log(self) -> None:
        self._log.info("log_reopened", path=str(self._settings.log_file))
        self._engine_log.reopen()

    def _dump_state(self) -> None:
        """SIGUSR1: all that is known, in one line, for whoever looks for a fault."""
        seen = self._engine.snapshot
        tasks = sorted(task.get_name() for task in asyncio.all_tasks())
        findings = [f"{found.outcome} x{found.count}" for found in self._engine_log.findings(seen.generation)]
        self._log.info(
            "state_dump", engine=repr(seen), findings=findings, tasks=tasks, lag=self._engine_log.lag_bytes
        )


def _has_begun(seen: Snapshot) -> bool:
    """True once the first start was tried, or cannot be."""
    return seen.generation > 0 or seen.state is State.FATAL


def _explain_exit(lines: Sequence[str]) -> tuple[str, str] | None:
    from arasul_supervisor.logs.meaning.classify import explain_exit  # needed only when a start has failed

    return explain_exit(lines)


def _import_doorway() -> Callable[[Settings, socket.socket, DaemonLog], Awaitable[Doorway]]:
    from arasul_supervisor.api.doorway import open_doorway  # aiohttp, msgspec: 80 ms

    return open_doorway


def _import_services() -> type[Services]:
    from arasul_supervisor.services import Services  # all of our own rooms: 200 ms

    return Services
