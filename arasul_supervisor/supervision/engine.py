"""The one owner of the engine's state: takes events, asks the table, runs the effects, publishes snapshots.

Callers never look at the state and then act: they post what they want and await a snapshot that shows it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision import process_signals, runners
from arasul_supervisor.supervision.board import Board
from arasul_supervisor.supervision.effects import Effects
from arasul_supervisor.supervision.generation import ChildChanged, Message
from arasul_supervisor.supervision.lifecycle import Event, decide, wanted_after
from arasul_supervisor.supervision.own_part import CureAsked
from arasul_supervisor.supervision.process_stat import is_below
from arasul_supervisor.supervision.snapshot import Snapshot, State, Wanted
from arasul_supervisor.supervision.turn_log import TurnLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.child import Started
    from arasul_supervisor.supervision.effects import Finding
    from arasul_supervisor.supervision.init import Reaper
    from arasul_supervisor.supervision.process_looks import Identity
    from arasul_supervisor.supervision.process_signals import Ends
    from arasul_supervisor.supervision.restart_policy import RestartPolicy
    from arasul_supervisor.supervision.strays import Stray
    from arasul_supervisor.supervision.wiring import EngineLimits, EngineWiring

_RUNNERS_S = 2.0
_KEPT_ENDS = 64
_COMMANDS_TO_START = (Event.START_ASKED, Event.RESTART_ASKED, Event.CURE_ASKED)


@dataclass(frozen=True, slots=True)
class _Letter:
    """What is posted to the owner, and whom to tell once it has been acted upon."""

    content: Message | Finding
    handled: asyncio.Future[None] | None = None


class Engine:
    """Owns the engine process. All of its mutable state is touched by the task `run` only."""

    def __init__(
        self,
        wiring: EngineWiring,
        limits: EngineLimits,
        policy: RestartPolicy,
        *,
        marker: str,
        reaper: Reaper,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._reaper, self._log = reaper, TurnLog(log)
        self._wiring, self._board = wiring, Board(log)
        self._is_leaving = self._is_over = False
        self._ended: deque[Identity] = deque(maxlen=_KEPT_ENDS)
        self._inbox: asyncio.Queue[_Letter] = asyncio.Queue()
        self._next: deque[Message] = deque()
        self._effects = Effects(
            wiring,
            limits,
            policy,
            board=self._board,
            marker=marker,
            reaper=reaper,
            clock=clock,
            log=self._log,
            post=self._post,
            follow_up=self._next.append,
        )

    @property
    def snapshot(self) -> Snapshot:
        """The engine as it is now."""
        return self._board.published

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with every snapshot that is published; returns how to end that."""
        return self._board.subscribe(callback)

    async def wait_until(self, predicate: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot, beginning with the present one, for which `predicate` holds."""
        return await self._board.wait_until(predicate)

    def before_terminate(self, farewell: Callable[[], Awaitable[object]]) -> None:
        """Await `farewell` (a second at most) each time before the engine gets SIGTERM."""
        self._effects.farewells.append(farewell)

    def ask_start(self) -> None:
        """Want the engine up."""
        self._post(Message(Event.START_ASKED))

    def ask_stop(self) -> None:
        """Want the engine down."""
        self._post(Message(Event.STOP_ASKED))

    def ask_restart(self) -> None:
        """Want a new generation."""
        self._post(Message(Event.RESTART_ASKED))

    def ask_cure_restart(self, reason: str, *, generation: int | None = None) -> None:
        """Restart it to heal it. What the operator wants stays as it is, so that his stop wins.

        Nothing happens unless it runs, and is still the same: a cure is for the engine that was seen sick.

        :param reason: stands in the decision and in the report of its end: `restarted by healing: …`
        :param generation: the one that was seen; the present one when None
        """
        seen = self.snapshot.generation if generation is None else generation
        self._post(CureAsked(Event.CURE_ASKED, seen, reason=reason))

    async def start(self) -> Snapshot:
        """Want it up, and wait until it runs or its start has failed. The caller sets the limit."""
        await self._post_and_see(Message(Event.START_ASKED))
        return await self.wait_until(_is_settled)

    async def stop(self) -> Snapshot:
        """Want it down, and wait until nothing of it is left, or only something that nothing ends.

        Also ends when somebody else wanted it up meanwhile, and it has settled.
        """
        await self._post_and_see(Message(Event.STOP_ASKED))
        return await self.wait_until(_is_stop_settled)

    async def shut_down(self) -> None:
        """The last word: want it down, whatever anybody asks from now on. Returns at once when its owner has ended."""
        self._is_leaving = True
        if not self._is_over:
            await self.stop()

    async def take_turn(self) -> None:
        """Return once the owner has handled all that was posted before: a proof that it makes progress.

        :raises EngineDown: it has ended
        """
        await self._post_and_see(ChildChanged())

    @property
    def is_gone(self) -> bool:
        """True when nothing of the engine is known to be alive."""
        return self._effects.is_idle

    async def restart(self) -> Snapshot:
        """Want a new generation, and wait until it runs or its start has failed."""
        await self._post_and_see(Message(Event.RESTART_ASKED))
        return await self.wait_until(_is_settled)

    async def kill_runners(self) -> int:
        """End every model runner of the engine by SIGKILL; how many. The engine itself goes on."""
        pid, generation = self.snapshot.pid, self.snapshot.generation
        if pid is None:
            return 0
        self._wiring.expect_deaths(generation, 0)
        ended = await asyncio.to_thread(runners.kill_runners, pid, bound_s=_RUNNERS_S)
        self._wiring.expect_deaths(generation, len(ended))
        self._ended.extend(ended)
        self._log.warning("runners_killed", engine_pid=pid, runners=len(ended))
        self._log.flush()  # this is no turn of the owner's
        return len(ended)

    @property
    def ended_runners(self) -> frozenset[Identity]:
        """The runners that we have ended lately: whoever misses one knows that it did not die by itself."""
        return frozenset(self._ended)

    async def end_runners(self, identities: Collection[Identity]) -> frozenset[Identity]:
        """SIGKILL exactly these, runners or orphans; those that are dead then, also by themselves meanwhile.

        One that sleeps in the kernel (state D) is not among them. Takes 2 s at most; the engine itself goes on.

        :raises OSError: no descriptor is left
        """
        seen = self.snapshot
        self._wiring.expect_deaths(seen.generation, 0)
        ends, met_dead = await asyncio.to_thread(_end, identities, seen.pid or 0)
        self._wiring.expect_deaths(seen.generation, met_dead)
        self._ended.extend(ends.killed)
        dead = ends.killed | ends.gone_before
        survived = [pid for pid, _ in set(identities) - dead]
        self._log.warning("runners_ended", pids=[pid for pid, _ in ends.killed], survived=survived)
        self._log.flush()  # this is no turn of the owner's
        return dead

    async def continue_processes(self, identities: Collection[Identity]) -> frozenset[Identity]:
        """SIGCONT to exactly these, the engine itself too; those that got it.

        It goes past the engine's owner, who alone ends and reaps: it ends nothing, a pidfd reaches no later process
        of that number, and what follows from it the owner hears from the kernel.
        """
        reached = await asyncio.to_thread(process_signals.continue_processes, identities)
        self._log.warning("processes_continued", pids=[pid for pid, _ in reached])
        self._log.flush()
        return reached

    def kill_now(self) -> None:
        """SIGKILL the whole tree at once, whatever state it is in: the daemon is told to end for the second time."""
        self._effects.kill_now()

    async def run(self, strays: Sequence[Stray] = (), *, first: Started | None = None) -> None:
        """Own the engine until cancelled. Launches it, unless `strays` of an earlier life survived the sweep.

        :param first: the first generation where it runs already
        """
        if first is not None:
            self._effects.adopt(first)
        self._reaper.listen(lambda: self._post(ChildChanged()))
        self._board.change(wanted=Wanted.UP)
        if strays:
            self._post(Message(Event.TREE_SURVIVED, survivors=tuple(strays)))
        else:
            self.ask_start()
        try:
            while True:
                letter = await self._inbox.get()
                self._take(letter.content)
                self._board.publish()
                self._log.flush()
                if letter.handled is not None and not letter.handled.done():
                    letter.handled.set_result(None)
        finally:
            self._is_over = True
            await self._effects.close()
            self._log.flush()

    def _take(self, content: Message | Finding) -> None:
        if not isinstance(content, Message):
            self._effects.note(content)
            return
        self._next.append(content)
        while self._next:
            self._step(self._next.popleft())

    def _step(self, message: Message) -> None:
        """One cell of the table. What an older generation still reports is dropped here, and only here."""
        seen = self._board.snapshot
        if message.generation is not None and message.generation != seen.generation:
            return
        if self._is_leaving and message.event in _COMMANDS_TO_START:
            return
        wanted = wanted_after(seen.wanted, message.event)
        cell = decide(seen.state, wanted, message.event)
        if cell.effects:
            self._effects.note_cause(message)
        self._board.change(state=cell.state, wanted=wanted)
        for effect in cell.effects:
            self._effects.run(effect)

    def _post(self, content: Message | Finding) -> None:
        self._inbox.put_nowait(_Letter(content))

    async def _post_and_see(self, content: Message | Finding) -> None:
        if self._is_over:
            raise EngineDown("The daemon is ending, and the engine with it.")
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait(_Letter(content, handled))
        await handled


def _end(identities: Collection[Identity], engine_pid: int) -> tuple[Ends, int]:
    """End them; and how many of those that we killed Ollama may yet meet dead. An orphan it does not know.

    :raises OSError: no descriptor is left
    """
    below = {identity for identity in identities if is_below(identity[0], engine_pid)}
    ends = process_signals.end_processes(identities, bound_s=_RUNNERS_S)
    return ends, len(ends.killed & below)


def _is_stop_settled(seen: Snapshot) -> bool:
    """True when it is down, or cannot be brought down, or a later command has brought it up again."""
    return seen.state in (State.STOPPED, State.FATAL) or (seen.wanted is Wanted.UP and _is_settled(seen))


def _is_settled(seen: Snapshot) -> bool:
    """True when nothing is under way: it runs, it rests, or it waits for its next attempt."""
    if seen.state is State.BACKOFF:
        return seen.next_attempt_at is not None
    return seen.state in (State.RUNNING, State.STOPPED, State.FATAL)
