"""The one limit on time: an answer comes within its bound, whatever the engine does or fails to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arasul_supervisor.errors import ArasulError

T = TypeVar("T")


async def bounded(work: Awaitable[T], *, bound_s: float, late: Callable[[], ArasulError]) -> T:
    """The result of the work, or `late()` raised when the bound has passed.

    `asyncio.wait_for` waits until the cancelled work has really ended, so that work which is slow to notice its
    cancellation breaks the bound. Here it is cancelled and left to end by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=bound_s)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise late()
    return task.result()


def _leave(task: asyncio.Future[T]) -> None:
    task.cancel()
    task.add_done_callback(_take_result)


def _take_result(task: asyncio.Future[T]) -> None:
    """Look at the outcome, or asyncio reports an exception that nobody retrieved."""
    if not task.cancelled():
        task.exception()
