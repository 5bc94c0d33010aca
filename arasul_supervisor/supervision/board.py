"""Where the engine's owner publishes what it knows: the newest snapshot, and those who wait for a certain one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.event_log import EventLog


class Board:
    """Holds the snapshot. Only the engine's owner changes and publishes it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._snapshot = self._published = Snapshot()
        self._changes: dict[str, object] = {}
        self._subscribers: list[Callable[[Snapshot], None]] = []
        self._waiting: list[tuple[Callable[[Snapshot], bool], asyncio.Future[Snapshot]]] = []

    @property
    def published(self) -> Snapshot:
        """The last that was published; any thread may ask."""
        return self._published

    @property
    def snapshot(self) -> Snapshot:
        """The owner's newest, made when it is asked for: between a death and the next spawn a dozen changes are."""
        if self._changes:
            # The dataclass checks the names; mypy cannot follow keywords into `replace`.
            self._snapshot = replace(self._snapshot, **self._changes)  # type: ignore[arg-type]
            self._changes = {}
        return self._snapshot

    def change(self, **changes: object) -> None:
        """Replace fields of the snapshot; seen by others at the next `publish`."""
        self._changes.update(changes)

    def publish(self) -> None:
        """Show the snapshot, if it has changed, to the subscribers and to those whose wait it ends."""
        seen = self.snapshot
        if seen is self._published:
            return
        self._published = seen
        for callback in list(self._subscribers):
            try:
                callback(seen)
            except Exception as error:  # a listener's fault must not end the engine's owner
                self._log.error("subscriber_failed", error=repr(error))
        for predicate, future in self._waiting:
            if not future.done() and predicate(seen):
                future.set_result(seen)

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` at each `publish`; returns how to end that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def wait_until(self, predicate: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot, beginning with the present one, for which `predicate` holds."""
        if predicate(self.snapshot):
            return self.snapshot
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        entry = (predicate, future)
        self._waiting.append(entry)
        try:
            return await future
        finally:
            self._waiting.remove(entry)
