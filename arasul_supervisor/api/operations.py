"""Work that is carried to its end once it has begun: a client that leaves halfway leaves nothing half done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class Operation:
    """One kind of work, at most once at a time. The work bounds itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[object] | None = None

    @property
    def is_running(self) -> bool:
        """True while the work is under way."""
        return self._task is not None and not self._task.done()

    async def run(self, work: Callable[[], Coroutine[object, object, T]]) -> T:
        """Begin the work and wait for its end; who asks must have seen that none is under way."""
        if self.is_running:
            raise RuntimeError(f"{self._name} is under way already")
        task = asyncio.get_running_loop().create_task(work(), name=self._name)
        self._task = task
        task.add_done_callback(_take_result)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the work, if there is any: the daemon ends."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})


def _take_result(task: asyncio.Task[T]) -> None:
    """Look at the outcome: it may be that nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
