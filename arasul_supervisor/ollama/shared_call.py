"""Many askers, one call upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import EngineDown, EngineSilent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Whoever asks while a call is under way gets its answer; an asker that leaves disturbs nobody."""

    def __init__(self, call: Callable[[float], Coroutine[object, object, T]], *, name: str) -> None:
        """Remember what to call.

        :param call: takes its bound in seconds, that of the asker who began it
        :param name: of the task, for a person who lists tasks
        """
        self._call = call
        self._name = name
        self._joinable: asyncio.Task[T] | None = None
        self._tasks: set[asyncio.Task[T]] = set()

    async def join(self, *, timeout_s: float) -> T:
        """The answer of the call under way, or of one that begins now.

        :raises EngineSilent: when this asker's own bound is over first
        """
        task = self._joinable
        if task is None or task.done():
            task = self._begin(timeout_s)
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise EngineSilent
        if task.cancelled():
            raise EngineDown("The daemon is stopping; nothing more is asked of Ollama.")
        return task.result()

    def detach(self) -> None:
        """The call under way answers those who wait for it; who asks from now on begins another."""
        self._joinable = None

    async def close(self) -> None:
        """Ends what is under way."""
        for task in tuple(self._tasks):
            await end_task(task)

    def _begin(self, timeout_s: float) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(self._call(timeout_s), name=self._name)
        self._joinable = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it may be that nobody waits for it any more
