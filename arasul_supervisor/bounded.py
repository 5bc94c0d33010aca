"""A bound for an await that never swallows a cancellation.

`asyncio.wait_for` of Python 3.10 and 3.11 returns the result instead of raising CancelledError when both
happen in one turn of the loop; a cancelled pull would go on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def within(awaitable: Awaitable[T], timeout_s: float | None) -> T:
    """The result, if it comes within that many seconds (None: no bound).

    :raises asyncio.TimeoutError: after the awaitable was cancelled and has ended
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        await end_task(task)


async def end_task(task: asyncio.Future[T]) -> None:
    """Cancels the task if it still runs and waits for its end; its outcome is looked at and dropped."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
