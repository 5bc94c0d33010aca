"""One running generation: its process, and the tasks that watch it until nothing of it is left."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.bounded import within
from arasul_supervisor.supervision.heartbeat import Heartbeat
from arasul_supervisor.supervision.lifecycle import Event
from arasul_supervisor.supervision.readiness import answered_version
from arasul_supervisor.supervision.tree import TreeEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.child import Child
    from arasul_supervisor.supervision.init import Reaper
    from arasul_supervisor.supervision.strays import Stray

_FAREWELL_S = 1.0
"""What the engine's clients get to close their pulls before SIGTERM: they need 0.2 s (facts/ollama.md §0.9)."""
_UNKILLABLE_S = 10.0
"""A member with 4 GiB resident took 0.3 s to go (facts/process.md §1.3); GPU memory adds to that."""
_LOOK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way to the engine's owner, and what it found out. No generation: an operator's word."""

    event: Event
    generation: int | None = None
    version: str | None = None
    survivors: tuple[Stray, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat of a generation: answered in time, or not."""

    generation: int
    is_answered: bool


@dataclass(frozen=True, slots=True)
class ChildChanged:
    """Some child died, stopped or went on: the kernel does not say which."""


class Generation:
    """Owns one child, its pidfd and the tasks around it. What it learns, it posts; it decides nothing."""

    def __init__(
        self,
        child: Child,
        marker: str,
        reaper: Reaper,
        post: Callable[[Message | Beat], None],
        log: EventLog,
    ) -> None:
        self.child = child
        self.tree = TreeEnd(child, marker)
        self._reaper, self._post, self._log = reaper, post, log
        self._watchers: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(child.pidfd, self._died)

    def watch_readiness(self, host: str, port: int) -> None:
        """Post BECAME_READY once this very process answers."""
        self._begin("readiness", self._until_ready(host, port))

    def watch_heartbeat(self, host: str, port: int) -> None:
        """Post a Beat once a second."""
        number = self.child.generation
        beat = Heartbeat(host, port, lambda is_answered: self._post(Beat(number, is_answered)))
        self._begin("heartbeat", beat.run())

    def terminate(self, farewells: Sequence[Callable[[], Awaitable[object]]]) -> None:
        """Let the engine's clients close what they have open, then SIGTERM, and SIGCONT for a stopped process."""
        self._begin("terminate", self._terminate(farewells))

    def end_tree(self) -> bool:
        """SIGKILL what is left of the tree. True when all of it is gone; else TREE_GONE or TREE_SURVIVED follows."""
        if self._ending is not None:
            return self.tree.is_over
        for task in self._watchers:
            task.cancel()
        self._loop.remove_reader(self.child.pidfd)
        if self.tree.advance_spinning(self._reaper):
            return True
        self._ending = self._loop.create_task(self._finish_tree(), name=f"end-tree-{self.child.generation}")
        return False

    async def close(self) -> None:
        """End the tasks and give the pidfd back."""
        tasks = [*self._watchers, *([self._ending] if self._ending else [])]
        for task in tasks:
            task.cancel()
        self._loop.remove_reader(self.child.pidfd)
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self.child.close()  # only now: a task may still have been about to signal through it

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work, name=f"{name}-{self.child.generation}")
        task.add_done_callback(self._tell_failure)
        self._watchers.append(task)

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("generation_task_failed", task=task.get_name(), error=repr(error))

    def _died(self) -> None:
        # Level-triggered: a reader left in place would be called without end.
        self._loop.remove_reader(self.child.pidfd)
        self._post(Message(Event.CHILD_EXITED, self.child.generation))

    async def _until_ready(self, host: str, port: int) -> None:
        version = await answered_version(host, port, self.child.pid)
        self._post(Message(Event.BECAME_READY, self.child.generation, version=version))

    async def _terminate(self, farewells: Sequence[Callable[[], Awaitable[object]]]) -> None:
        try:
            for farewell in farewells:
                await within(farewell(), _FAREWELL_S)
        except Exception as error:  # what keeps a client from leaving must not keep the engine from ending
            self._log.warning("farewell_failed", error=repr(error))
        self.child.signal(signal.SIGTERM)
        self.child.signal(signal.SIGCONT)

    async def _finish_tree(self) -> None:
        number = self.child.generation
        if not await self.tree.finish(self._reaper, _UNKILLABLE_S):
            survivors = tuple(self.tree.survivors())
            self._post(Message(Event.TREE_SURVIVED, number, survivors=survivors))
            while not await self.tree.finish(self._reaper, _LOOK_AGAIN_S):
                continue
        self._post(Message(Event.TREE_GONE, number))
