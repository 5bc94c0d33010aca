"""Blocking reads away from the loop, in a thread that nobody has to wait for.

Not `asyncio.to_thread`: the loop's end waits for the threads of its executor, for ever on 3.10 (facts/gpu.md §3.5).
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Offload:
    """Runs one blocking read at a time in a daemon thread; while one is stuck no second is started."""

    def __init__(self, name: str) -> None:
        """Name the threads, so that a dump of the daemon says what is stuck."""
        self._name = name
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
        threading.Thread(target=work, name=self._name, daemon=True).start()
        await asyncio.wait((finished,), timeout=timeout_s)
        if not finished.done():
            return None
        if errors:
            raise errors[0]
        return results[0]

    async def settle(self, *, timeout_s: float) -> None:
        """Wait for the read in flight, if any, but not longer than `timeout_s`."""
        if self._in_flight is not None and not self._in_flight.done():
            await asyncio.wait((self._in_flight,), timeout=timeout_s)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
