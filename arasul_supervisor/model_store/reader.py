"""The one way into the model store: each look in a thread of its own, one at a time, within a bound.

The folder may lie on a network and hang there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.offload import OffloadQueue

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
        self._thread = OffloadQueue("model-store")

    async def call(self, look: Callable[[Path], T], *, timeout_s: float = LOOK_S) -> T:
        """What `look(folder)` returns.

        :raises StoreUnread: no folder is known, it could not be read, or took longer than the bound
        """
        folder = self.folder
        if folder is None:
            raise StoreUnread("The folder of the models is not known; set OLLAMA_MODELS or HOME.")
        try:
            return await self._thread.call(lambda: look(folder), timeout_s=timeout_s)
        except asyncio.TimeoutError:
            raise StoreUnread(
                f"The folder of the models {folder} did not answer within {timeout_s:g} s."
            ) from None
        except OSError as error:
            raise StoreUnread(
                f"The folder of the models {folder} cannot be read: {error.strerror}."
            ) from error

    def close(self) -> None:
        """Lets the thread end; one that is stuck is left behind."""
        self._thread.close()
