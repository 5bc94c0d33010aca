"""Files of the state folder that are written in the background: nobody waits for the disk, or is stopped by it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.bounded import end_task
from arasul_supervisor.offload import Offload

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DISK_S: Final = 5.0
CLOSE_S: Final = 0.5


class BackgroundWriter:
    """Does writes one after the other, off the loop; of those with the same key only the newest.

    One that fails waits for the next that comes, and is tried again with it. That is told once, until one succeeds.
    """

    def __init__(self, name: str, *, most: int, tell: Callable[[str], None]) -> None:
        """Write nothing yet.

        :param name: of the thread and the task
        :param most: how many writes may wait; the oldest gives way
        :param tell: takes a clause that says what cannot be written, and why: `… cannot be written: …`
        """
        self._name, self._most, self._tell = name, most, tell
        self._thread = Offload(name)
        self._waiting: dict[str, Callable[[], None]] = {}
        self._n_asked = 0
        self._task: asyncio.Task[None] | None = None
        self._is_told = self._is_closed = False

    def put(self, key: str, write: Callable[[], None]) -> None:
        """Have this done soon; returns at once.

        :param write: blocks, and raises OSError where the disk refuses
        """
        self._waiting[key] = write
        self._n_asked += 1
        while len(self._waiting) > self._most:
            del self._waiting[next(iter(self._waiting))]
        self._begin()

    async def read(self, read: Callable[[], T]) -> T | None:
        """What `read` returns, after all writes before it; None when the disk took longer than 5 s.

        :raises OSError: the disk refuses
        """
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=DISK_S)
        return await self._thread.call(read, timeout_s=DISK_S)

    async def close(self) -> None:
        """Do what waits, within 0.5 s. What is put later is not done."""
        if self._waiting:
            self._begin()
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_S)
            if not self._task.done():
                self._tell_once(f"was not written within {CLOSE_S:g} s")
            await end_task(self._task)
        await self._thread.settle(timeout_s=0)

    def _begin(self) -> None:
        if not self._is_closed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._write_all(), name=self._name)

    async def _write_all(self) -> None:
        """All that waits, until one fails and nothing has come meanwhile."""
        while self._waiting:
            n_asked, key = self._n_asked, next(iter(self._waiting))
            write = self._waiting.pop(key)
            trouble = await self._trouble_with(write)
            if trouble is None:
                self._is_told = False
                continue
            self._tell_once(trouble)
            self._waiting = {key: write, **self._waiting}  # where a newer one has this key, that one is kept
            if self._n_asked == n_asked:
                return

    async def _trouble_with(self, write: Callable[[], None]) -> str | None:
        def done() -> bool:
            write()
            return True

        try:
            is_done = await self._thread.call(done, timeout_s=DISK_S)
        except OSError as error:
            return f"cannot be written: {reason_of(error)}"
        return None if is_done else f"was not written within {DISK_S:g} s"

    def _tell_once(self, trouble: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._tell(trouble)


def reason_of(error: Exception) -> str:
    """Why, as a clause: an OSError's without its number and its path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
