"""The folder of the models, watched: the room on its disk, and which names its blobs have.

It may lie on a network and hang there, so all its reads go through one thread of their own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from arasul_supervisor.model_store.disk import read_store_disk
from arasul_supervisor.offload import Offload
from arasul_supervisor.telemetry.model_names import are_names_due, read_model_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.model_store.disk import StoreDisk
    from arasul_supervisor.telemetry.model_names import ModelNames


class StoreWatch:
    """Owns what is known of the store. Without a folder nothing ever is."""

    def __init__(self, store: Path | None, clock: Clock, log: EventLog, *, stale_after_s: float) -> None:
        """Look at nothing yet.

        :param stale_after_s: how long what was seen of the disk counts while no newer look comes to its end
        """
        self._store, self._clock, self._log = store, clock, log
        self._stale_after_s = stale_after_s
        self._thread = Offload("telemetry-store")
        self._disk: StoreDisk | None = None
        self._names: ModelNames | None = None
        self._found_names: deque[ModelNames] = deque()  # by the thread, also after nobody waited any more
        self._is_full_told = False

    @property
    def disk(self) -> StoreDisk | None:
        """As last seen; None when that is too long ago."""
        if self._disk is None or self._clock.mono() - self._disk.seen_mono > self._stale_after_s:
            return None
        return self._disk

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each blob of a model, sorted; empty until a loaded blob made us look."""
        return self._names.by_blob if self._names else {}

    async def look(self, loaded_blobs: Collection[str], *, timeout_s: float) -> None:
        """One look at the disk, and at the names where a loaded blob has none yet; old ones stay in a time-out."""
        if self._store is None:
            return
        store, mono, at = self._store, self._clock.mono(), self._clock.wall()
        disks = await self._thread.call(
            lambda: (read_store_disk(store, mono=mono, at=at),), timeout_s=timeout_s
        )
        if disks is None:
            return
        self._take(disks[0])
        self._take_names()
        if are_names_due(self._names, loaded_blobs, now_mono=mono):
            await self._thread.call(
                lambda: self._found_names.append(read_model_names(store, loaded_blobs, mono=mono)),
                timeout_s=timeout_s,
            )
            self._take_names()

    async def settle(self, *, timeout_s: float) -> None:
        """Wait for the read in flight, if any, but not longer than `timeout_s`."""
        await self._thread.settle(timeout_s=timeout_s)

    def _take_names(self) -> None:
        while self._found_names:
            self._names = self._found_names.popleft()

    def _take(self, disk: StoreDisk | None) -> None:
        """A full disk is told once, and again only when room was seen in between."""
        self._disk = disk
        if disk is None:
            return
        if disk.trouble and not self._is_full_told:
            self._log.error("engine_outcome", outcome="disk_full", message=disk.trouble)
        self._is_full_told = disk.trouble is not None
