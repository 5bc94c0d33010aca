"""Blocking reads away from the loop, in a thread that nobody has to wait for.

Not `asyncio.to_thread`: the loop's end waits for the threads of its executor, for ever on 3.10 (facts/gpu.md §3.5).
"""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from arasul_supervisor.bounded import within

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
A = TypeVar("A")


class Offload:
    """Runs one blocking read at a time in a daemon thread; while one is stuck no second is started.

    The thread stands until `settle`: a new one for each read costs 0.2 ms of processor time.
    """

    def __init__(self, name: str) -> None:
        """Name the thread, so that a dump of the daemon says what is stuck."""
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._in_flight: asyncio.Future[None] | None = None

    async def call(self, read: Callable[[], T], *, timeout_s: float) -> T | None:
        """What `read` returns; None when it took longer than `timeout_s`, or while an earlier one is stuck.

        :raises Exception: whatever `read` raised
        """
        if self._in_flight is not None and not self._in_flight.done():
            return None
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        results: list[T] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.append(read())
            except Exception as error:  # handed to the caller below
                errors.append(error)
            try:
                loop.call_soon_threadsafe(_finish, finished)
            except RuntimeError:  # the loop is closed: the daemon left while this read was stuck
                return

        self._in_flight = finished
        self._hand_over(work)
        await asyncio.wait((finished,), timeout=timeout_s)
        if not finished.done():
            return None
        if errors:
            raise errors[0]
        return results[0]

    async def settle(self, *, timeout_s: float) -> None:
        """Let the thread end, once the read in flight has ended; waits for that, but not longer than `timeout_s`."""
        self._jobs.put(None)
        self._thread = None  # a later call has a thread and a queue of its own
        if self._in_flight is not None and not self._in_flight.done():
            await asyncio.wait((self._in_flight,), timeout=timeout_s)

    def __del__(self) -> None:
        """Without its owner the thread would wait for ever."""
        self._jobs.put(None)

    def _hand_over(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._jobs = SimpleQueue()
            self._thread = threading.Thread(
                target=_work_off, args=(self._jobs,), name=self._name, daemon=True
            )
            self._thread.start()
        self._jobs.put(work)


class OffloadQueue:
    """Runs blocking calls in their order in one daemon thread; one that nobody waits for any more is left out."""

    def __init__(self, name: str) -> None:
        """Name the thread, so that a dump of the daemon says what is stuck."""
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, work: Callable[[], T], *, timeout_s: float) -> T:
        """What `work` returns.

        :raises asyncio.TimeoutError: it, with those before it, took longer; it may go on
        :raises Exception: whatever `work` raised
        """
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            if finished.done():  # a plain read of a flag, which any thread may do
                return
            try:
                result = work()
            except Exception as error:  # handed to the caller
                _tell(loop, finished.set_exception, finished, error)
            else:
                _tell(loop, finished.set_result, finished, result)

        if self._thread is None:
            self._jobs = SimpleQueue()
            self._thread = threading.Thread(
                target=_work_off, args=(self._jobs,), name=self._name, daemon=True
            )
            self._thread.start()
        self._jobs.put(run)
        return await within(finished, timeout_s)

    def close(self) -> None:
        """Let the thread end after what is in flight; a later call has a thread of its own."""
        self._jobs.put(None)
        self._thread = None

    def __del__(self) -> None:
        """Without its owner the thread would wait for ever."""
        self._jobs.put(None)


def _tell(
    loop: asyncio.AbstractEventLoop, how: Callable[[A], None], finished: asyncio.Future[T], what: A
) -> None:
    def tell() -> None:
        if not finished.done():
            how(what)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed: the daemon left while this was stuck
        return


def _work_off(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := jobs.get()) is not None:
        work()
        del work  # it holds its owner, whose end is ours


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
