"""What the table's effects do to the world. Each does one thing; none decides where the engine goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arasul_supervisor._compat import assert_never
from arasul_supervisor.errors import ArasulError
from arasul_supervisor.supervision import exits, own_part, strays
from arasul_supervisor.supervision.child import spawn
from arasul_supervisor.supervision.generation import Beat, ChildChanged, Generation, Message
from arasul_supervisor.supervision.lifecycle import Effect, Event
from arasul_supervisor.supervision.lock import installation_prefix
from arasul_supervisor.supervision.own_part import own_part_after
from arasul_supervisor.supervision.post_mortem import PostMortem
from arasul_supervisor.supervision.restart_policy import GiveUp
from arasul_supervisor.supervision.restarts import Restarts
from arasul_supervisor.supervision.snapshot import Failure, State
from arasul_supervisor.supervision.vital_signs import VitalSigns
from arasul_supervisor.supervision.wiring import Explained

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.board import Board
    from arasul_supervisor.supervision.child import Started
    from arasul_supervisor.supervision.init import Reaper
    from arasul_supervisor.supervision.restart_policy import RestartPolicy
    from arasul_supervisor.supervision.strays import Stray
    from arasul_supervisor.supervision.wiring import EngineLimits, EngineWiring

Finding = Beat | Explained | ChildChanged

EXIT_GAVE_UP = 70
_LAST_KILL_S = 0.5
_SWEEP_S = 0.5
_SWEEP_PAUSE_S = 1.0


class Effects:
    """Runs effects for the engine's owner, and holds what they need between two events."""

    def __init__(
        self,
        wiring: EngineWiring,
        limits: EngineLimits,
        policy: RestartPolicy,
        *,
        board: Board,
        marker: str,
        reaper: Reaper,
        clock: Clock,
        log: EventLog,
        post: Callable[[Message | Finding], None],
        follow_up: Callable[[Message], None],
    ) -> None:
        """Take the parts.

        :param post: puts a finding at the end of the owner's queue
        :param follow_up: has an event handled in this same turn, before anything queued
        """
        self._wiring, self._limits = wiring, limits
        self._board, self._marker, self._reaper = board, marker, reaper
        self._clock, self._log, self._post, self._follow_up = clock, log, post, follow_up
        self._vital_signs = VitalSigns(board=board, clock=clock, log=log)
        self._post_mortem = PostMortem(
            wiring,
            limits.port,
            board=board,
            clock=clock,
            log=log,
            post=post,
            begin=self._begin,
            take_oom_kills=self._vital_signs.take_oom_kills,
        )
        self._restarts = Restarts(policy, limits.grace_s, board=board, clock=clock, log=log)
        self.farewells: list[Callable[[], Awaitable[object]]] = []
        self._current: Generation | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._part = own_part.NONE
        self._version: str | None = None
        self._spawn_failure: Failure | None = None
        self._survivors: tuple[Stray, ...] = ()
        self._delay_s = 0.0
        self._sweeper: asyncio.Task[None] | None = None
        self._first: Started | None = None
        self._run: dict[Effect, Callable[[], None]] = {
            Effect.SPAWN: self._spawn,
            Effect.TERMINATE: self._terminate,
            Effect.END_TREE: self._end_tree,
            Effect.COUNT_LIFE: self._restarts.count_life,
            Effect.NOTE_EXIT: self._note_exit,
            Effect.DECIDE_RESTART: self._decide_restart,
            Effect.FORGET_SHORT_LIVES: self._restarts.forget_short_lives,
            Effect.RENEW_GRACE: self._restarts.renew_grace,
            Effect.NOTE_READY: self._note_ready,
            Effect.NOTE_SURVIVORS: self._note_survivors,
            Effect.ARM_START_LIMIT: lambda: self._arm(limits.startup_s, Event.START_TIMED_OUT),
            Effect.ARM_STOP_LIMIT: lambda: self._arm(limits.stop_s, Event.STOP_TIMED_OUT),
            Effect.ARM_BACKOFF: self._arm_backoff,
            Effect.ARM_STABLE: lambda: self._arm(policy.reset_s, Event.RAN_STABLY),
            Effect.CANCEL_TIMERS: self._cancel_timers,
            Effect.LEAVE: lambda: wiring.leave(EXIT_GAVE_UP),
        }

    def run(self, effect: Effect) -> None:
        """Do it. What takes time goes on in a task and comes back as an event."""
        self._run[effect]()

    def adopt(self, first: Started) -> None:
        """Take this for the first generation instead of spawning one."""
        self._first = first

    def note_cause(self, message: Message) -> None:
        """Keep what an event brings along for the effects that follow it."""
        self._survivors = message.survivors or self._survivors
        self._version = message.version or self._version
        part = own_part_after(self._part, message, self._limits)
        was_alive = self._board.snapshot.state in (State.STARTING, State.RUNNING, State.STOPPING)
        if part is not self._part and was_alive:
            self._part = part
            self._board.change(decision=part.told)

    def note(self, finding: Finding) -> None:
        """Put a finding that moves no state into the snapshot."""
        if isinstance(finding, Beat):
            self._vital_signs.note(finding, self._current)
        elif isinstance(finding, Explained):
            self._post_mortem.add(finding)
        elif isinstance(finding, ChildChanged):
            self._vital_signs.look_whether_frozen(self._current)
        else:
            assert_never(finding)

    @property
    def is_idle(self) -> bool:
        """True when no tree and no stray is known to be alive, nor a first generation that nobody took over."""
        is_tree_over = self._current is None or self._current.tree.is_over
        return is_tree_over and self._first is None and not self._survivors

    def kill_now(self) -> None:
        """SIGKILL the tree, and spin for its end for a few milliseconds at most."""
        if self._current is not None:
            self._current.tree.advance_spinning(self._reaper)

    async def close(self) -> None:
        """End all timers and tasks; an engine whose owner ends must end too."""
        self._cancel_timers()
        if self._current is not None:
            try:
                await self._current.tree.finish(self._reaper, _LAST_KILL_S)
            finally:
                await self._current.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._vital_signs.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # the others end by themselves

    def _spawn(self) -> None:
        if self._current is not None:
            raise AssertionError("promise 1: the former tree has not been seen to be gone")
        number = self._board.snapshot.generation + 1
        first = self._first
        self._board.change(
            generation=number,
            started_at=first.at if first else self._clock.wall(),
            started_mono=first.mono if first else self._clock.mono(),
            ready_at=None,
            ready_mono=None,
            answered_mono=None,
            next_attempt_at=None,
            next_attempt_mono=None,
        )
        self._restarts.note_start()
        if self._part.is_cure:
            self._board.change(restarts=self._board.snapshot.restarts + 1)
        self._vital_signs.note_spawn()
        self._part = own_part.NONE
        try:
            child = (
                first.child
                if first
                else spawn(self._wiring.prepare(number), generation=number, reaper=self._reaper)
            )
        except ArasulError as error:
            self._fail_spawn(Failure(error.code, error.sentence))
        except OSError as error:
            self._fail_spawn(Failure("spawn_failed", f"The engine cannot be started: {error}."))
        else:
            self._current = Generation(child, self._marker, self._reaper, self._post, self._log)
            self._first = None
            self._current.watch_readiness(self._limits.host, self._limits.port)
            self._board.change(pid=child.pid, command=child.launch.command, spool=child.launch.spool)
            self._log.info("engine_spawned", pid=child.pid, generation=child.generation)

    def _fail_spawn(self, failure: Failure) -> None:
        self._spawn_failure = failure
        self._follow_up(Message(Event.SPAWN_FAILED, self._board.snapshot.generation))

    def _note_ready(self) -> None:
        seen, now_mono = self._board.snapshot, self._clock.mono()
        self._board.change(
            ready_at=self._clock.wall(),
            ready_mono=now_mono,
            answered_mono=now_mono,
            engine_version=self._version,
            failure=None,
            gave_up=False,
            decision="it answers",
        )
        if self._current is not None:
            self._current.watch_heartbeat(self._limits.host, self._limits.port)
            self._vital_signs.note_ready(self._current)
        took_s = round(now_mono - (seen.started_mono or now_mono), 3)
        self._log.info("engine_ready", pid=seen.pid, version=self._version, took_s=took_s)

    def _terminate(self) -> None:
        if self._current is not None:
            self._current.terminate(self.farewells)

    def _end_tree(self) -> None:
        if self._current is not None:
            number = self._current.child.generation
            if self._current.end_tree():
                self._follow_up(Message(Event.TREE_GONE, number))
            elif self._survivors:  # it has been waited for long enough; that it goes after all is told later
                self._follow_up(Message(Event.TREE_SURVIVED, number, survivors=self._survivors))
        elif self._survivors:
            self._follow_up(Message(Event.TREE_SURVIVED, survivors=self._survivors))
        else:
            self._follow_up(Message(Event.TREE_GONE))

    def _note_survivors(self) -> None:
        failure = exits.unkillable(self._survivors)
        self._board.change(failure=failure, decision=failure.sentence)
        self._log.error("engine_unkillable", reason=failure.sentence)
        if self._current is None and self._sweeper is None:
            self._sweeper = self._begin(self._sweep_strays())

    async def _sweep_strays(self) -> None:
        """Look again and again for the strays of an earlier life that survived the sweep at launch, until none is."""
        generation = self._board.snapshot.generation
        prefix = installation_prefix(self._marker)
        while True:
            _, living = await asyncio.to_thread(strays.sweep, prefix, bound_s=_SWEEP_S)
            if not living:
                break
            await asyncio.sleep(_SWEEP_PAUSE_S)
        self._survivors, self._sweeper = (), None
        self._post(Message(Event.TREE_GONE, generation))

    def _note_exit(self) -> None:
        """Tell how the generation ended, and let go of it. Nothing is told where nothing ran."""
        if self._spawn_failure is not None:
            self._post_mortem.of_failed_spawn(self._spawn_failure)
            self._spawn_failure = None
        elif self._current is not None:
            ended, self._current = self._current, None
            self._survivors = ()
            self._post_mortem.of_generation(ended.tree.status, self._part)
            if self._board.snapshot.state is not State.STARTING:  # of a cure that a stop has overtaken
                self._part = own_part.NONE
            self._begin(ended.close())

    def _decide_restart(self) -> None:
        decision = self._restarts.decide()
        if decision is None:  # an operator's command found nothing running: no life has ended
            self._follow_up(Message(Event.RESTART_GRANTED))
        elif isinstance(decision, GiveUp):
            self._follow_up(Message(Event.GAVE_UP_LEAVING if decision.leave else Event.GAVE_UP_HOLDING))
        else:
            self._delay_s = decision.delay_s
            self._follow_up(Message(Event.RESTART_DELAYED if decision.delay_s else Event.RESTART_GRANTED))

    def _arm(self, delay_s: float, event: Event) -> None:
        generation = self._board.snapshot.generation
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(delay_s, self._post, Message(event, generation)))

    def _arm_backoff(self) -> None:
        self._board.change(
            next_attempt_at=self._clock.wall() + self._delay_s,
            next_attempt_mono=self._clock.mono() + self._delay_s,
        )
        self._arm(self._delay_s, Event.BACKOFF_ELAPSED)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._board.change(next_attempt_at=None, next_attempt_mono=None)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("engine_task_failed", error=repr(error))
