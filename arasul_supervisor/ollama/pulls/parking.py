"""Pulls that found no room on the disk: each waits here, without a slot, until it may have some."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.model_store.disk import free_bytes
from arasul_supervisor.model_store.parts import layers_on_disk
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.ollama.pulls.room import may_have_room, missing_bytes, wait_before_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.others import Others


class Parking:
    """Owns the waits of parked pulls."""

    def __init__(
        self,
        store: StoreReader,
        others: Others,
        *,
        go_on: Callable[[PullJob], None],
        fail: Callable[[PullJob, asyncio.Task[None], BaseException], None],
    ) -> None:
        """Wait for nothing yet.

        :param go_on: called when a pull may have room
        :param fail: called when a wait ended by an error that nobody foresaw
        """
        self._store, self._others = store, others
        self._go_on, self._fail = go_on, fail
        self._waits: dict[str, asyncio.Task[None]] = {}

    def enter(self, job: PullJob) -> None:
        """A parked pull waits from now on."""
        wait = asyncio.get_running_loop().create_task(self._wait(job), name=f"pull-{job.id}-room")
        self._waits[job.id] = wait
        wait.add_done_callback(partial(self._waited, job))

    async def leave(self, job: PullJob) -> None:
        """Its wait is over, whatever it found."""
        if (wait := self._waits.get(job.id)) is not None:
            await end_task(wait)

    async def close(self) -> None:
        """All of them."""
        for wait in tuple(self._waits.values()):
            await end_task(wait)

    async def _wait(self, job: PullJob) -> None:
        """Until the disk may have room, or somebody else has the pull go on."""
        while not job.unparked.is_set():
            with suppress(asyncio.TimeoutError):
                await within(job.unparked.wait(), wait_before_look(job.n_parked))
                return
            if await self._may_have_room(job):
                self._go_on(job)

    async def _may_have_room(self, job: PullJob) -> bool:
        layers = job.progress.layers
        try:
            on_disk, free = await self._store.call(
                lambda folder: (layers_on_disk(folder, layers), free_bytes(folder))
            )
        except StoreUnread:
            return False
        return free is not None and may_have_room(
            # looked at anew: another pull may have brought what they share
            missing=missing_bytes(on_disk) if layers else None,
            elsewhere=self._others.remaining_bytes(job),
            free=free,
            free_when_full=job.free_when_parked,
        )

    def _waited(self, job: PullJob, wait: asyncio.Task[None]) -> None:
        if self._waits.get(job.id) is wait:
            del self._waits[job.id]
        if not wait.cancelled() and (error := wait.exception()) is not None:
            self._fail(job, wait, error)
