"""Looks into blobs in a thread of its own, which nobody else waits for: a large blob takes minutes."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING

from arasul_supervisor.bounded import end_task
from arasul_supervisor.model_store.hashing import give_way, look_at_blob
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.offload import Offload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.hashing import BlobSeen
    from arasul_supervisor.model_store.manifests import Layer


class BlobHasher:
    """One blob at a time; whoever is cancelled while waiting for one stops the thread within a chunk of it."""

    def __init__(self, clock: Clock, *, stall_s: float, tick_s: float) -> None:
        """Start nothing yet.

        :param stall_s: how long a disk may bring nothing
        :param tick_s: how often progress is told
        """
        self._clock = clock
        self._stall_s = stall_s
        self._tick_s = tick_s
        self._thread = Offload("model-check")

    async def look(self, store: Path, layer: Layer, on_progress: Callable[[int], None]) -> BlobSeen:
        """What is there of the layer; `on_progress` is called in the loop with the bytes read so far.

        :raises StoreUnread: the disk brought nothing for too long
        """
        look = _Look(store, layer)
        task = asyncio.create_task(self._thread.call(look.run, timeout_s=math.inf), name="model-check")
        try:
            told_bytes, told_mono = 0, self._clock.mono()
            while not task.done():
                await asyncio.wait({task}, timeout=self._tick_s)
                now_mono = self._clock.mono()
                if look.n_bytes > told_bytes:
                    told_bytes, told_mono = look.n_bytes, now_mono
                    on_progress(told_bytes)
                elif now_mono - told_mono >= self._stall_s and not task.done():
                    break
            seen = task.result() if task.done() else None
        finally:
            look.stop()
            await end_task(task)
        if seen is None:
            raise StoreUnread(f"The disk of the models in {store} brought nothing for {self._stall_s:g} s.")
        return seen

    async def close(self, *, timeout_s: float) -> None:
        """Lets the thread end; one that is stuck is left behind."""
        await self._thread.settle(timeout_s=timeout_s)


class _Look:
    """One look: `run` belongs to the thread, the rest to the loop."""

    def __init__(self, store: Path, layer: Layer) -> None:
        self.n_bytes = 0  # written by the thread alone
        self._layer = layer
        self._store = store
        self._stopped = threading.Event()

    def run(self) -> BlobSeen | None:
        give_way()
        return look_at_blob(
            self._store,
            self._layer,
            on_bytes=self._count,
            is_wanted=lambda: not self._stopped.is_set(),
        )

    def stop(self) -> None:
        self._stopped.set()

    def _count(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
