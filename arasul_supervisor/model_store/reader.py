"""The one way into the model store: each look in a thread of its own, one at a time, within a bound.

The folder may lie on a network and hang there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.bounded import within
from arasul_supervisor.errors import ArasulError
from arasul_supervisor.offload import Offload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

LOOK_S: Final = 10.0


class StoreUnread(ArasulError):
    """The folder of the models cannot be read now."""

    code, status = "store_unread", 500


class StoreReader:
    """Calls functions of this room with the store's folder."""

    def __init__(self, folder: Path | None) -> None:
        """Look at nothing yet; without a folder every call raises StoreUnread."""
        self.folder = folder
        self._thread = Offload("model-store")
        self._turn = asyncio.Lock()

    async def call(self, look: Callable[[Path], T], *, timeout_s: float = LOOK_S) -> T:
        """What `look(folder)` returns.

        :raises StoreUnread: no folder is known, it could not be read, or took longer than the bound
        """
        folder = self.folder
        if folder is None:
            raise StoreUnread("The folder of the models is not known; set OLLAMA_MODELS or HOME.")
        try:
            # within: whoever had the turn before may be stuck too
            found = await within(self._in_turn(lambda: (look(folder),), timeout_s), timeout_s)
        except asyncio.TimeoutError:
            found = None
        except OSError as error:
            raise StoreUnread(
                f"The folder of the models {folder} cannot be read: {error.strerror}."
            ) from error
        if found is None:
            raise StoreUnread(f"The folder of the models {folder} did not answer within {timeout_s:g} s.")
        return found[0]

    async def close(self, *, timeout_s: float = 0.5) -> None:
        """Lets the thread end; one that is stuck is left behind."""
        await self._thread.settle(timeout_s=timeout_s)

    async def _in_turn(self, look: Callable[[], tuple[T]], timeout_s: float) -> tuple[T] | None:
        async with self._turn:
            return await self._thread.call(look, timeout_s=timeout_s)
