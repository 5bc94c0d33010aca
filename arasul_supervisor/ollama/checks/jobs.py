"""The checks of the daemon: one at a time, the others queue; the same asked twice is one."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import ArasulError, EngineDown, PullNotFound, not_installed
from arasul_supervisor.model_store.listing import walk_manifests
from arasul_supervisor.ollama.checks.job import CheckJob, CheckKind
from arasul_supervisor.ollama.checks.run import CheckLimits, CheckRun
from arasul_supervisor.ollama.job_ends import fail_by, oldest_ended
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.checks.repairing import Repairing

MAX_ENDED_JOBS: Final = 20
LOOK_S: Final = 2.0


class CheckCancelled(ArasulError):
    """The check was cancelled; a pull that a repair began goes on."""

    code, status = "check_cancelled", 409


class CheckJobs:
    """Owns every check and its task. All calls are made in the loop that runs them."""

    def __init__(
        self,
        store: StoreReader,
        repairing: Repairing,
        *,
        clock: Clock,
        limits: CheckLimits | None = None,
    ) -> None:
        """Remember the parts."""
        self._store = store
        self._repairing = repairing
        self._clock = clock
        self._limits = limits or CheckLimits()
        self._jobs: dict[str, CheckJob] = {}
        self._queue: deque[CheckJob] = deque()
        self._running: tuple[CheckJob, asyncio.Task[None]] | None = None
        self._is_closing = False

    async def begin_verify(self, name: str | None) -> CheckJob:
        """The job that compares the blobs of this model, or of all, with their digests; see `_begin`."""
        return await self._begin(CheckKind.VERIFY, name)

    async def begin_repair(self, name: str | None) -> CheckJob:
        """The job that also fetches anew what is broken; see `_begin`."""
        return await self._begin(CheckKind.REPAIR, name)

    def job(self, job_id: str) -> CheckJob:
        """One job, active or ended.

        :raises PullNotFound: when there is none of that id
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise PullNotFound from None

    def jobs(self) -> tuple[CheckJob, ...]:
        """All jobs, newest first; of the ended ones the last twenty."""
        return tuple(reversed(self._jobs.values()))

    async def cancel(self, job_id: str) -> CheckJob:
        """Ends a check; one that has ended stays as it is. A pull that it began goes on as a job of its own.

        :raises PullNotFound: when there is none of that id
        """
        job = self.job(job_id)
        if self._running is not None and self._running[0] is job:
            await end_task(self._running[1])
        elif job in self._queue:
            self._queue.remove(job)
        job.cancel(CheckCancelled())
        self._forget_oldest()
        return job

    async def close(self) -> None:
        """Ends every check, its task and its thread."""
        self._is_closing = True
        while self._queue:
            self._queue.popleft().cancel(_stopping())
        if self._running is not None:
            await end_task(self._running[1])

    async def _begin(self, kind: CheckKind, name: str | None) -> CheckJob:
        """The active job for that, or a new one.

        :raises ModelNotFound: no manifest in the store has that name
        :raises StoreUnread: the store did not say so in time
        :raises EngineDown: the daemon is stopping
        """
        known = self._active(kind, name)
        if known is None and name is not None:
            walk = await self._store.call(walk_manifests, timeout_s=LOOK_S)
            if not any(same_model(manifest.name, name) for manifest in walk.files):
                raise not_installed(name)
            known = self._active(kind, name)  # somebody else may have asked meanwhile
        if self._is_closing:
            raise _stopping()
        return known or self._add(CheckJob(os.urandom(6).hex(), kind, name, clock=self._clock))

    def _active(self, kind: CheckKind, name: str | None) -> CheckJob | None:
        return next((job for job in self._jobs.values() if job.is_active and job.is_for(kind, name)), None)

    def _add(self, job: CheckJob) -> CheckJob:
        self._jobs[job.id] = job
        self._queue.append(job)
        self._start_next()
        return job

    def _start_next(self) -> None:
        if self._running is not None or not self._queue or self._is_closing:
            return
        job = self._queue.popleft()
        run = CheckRun(job, self._store, self._repairing, clock=self._clock, limits=self._limits)
        task = asyncio.get_running_loop().create_task(run.run(), name=f"{job.kind.value}-{job.id}")
        self._running = job, task
        task.add_done_callback(partial(self._run_ended, job))

    def _run_ended(self, job: CheckJob, task: asyncio.Task[None]) -> None:
        self._running = None
        if task.cancelled():
            job.cancel(_stopping() if self._is_closing else CheckCancelled())
        elif (error := task.exception()) is not None:
            fail_by(error, job, task, what=f"The {job.kind.value}")
        self._start_next()
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        for job in oldest_ended(self._jobs.values(), kept=MAX_ENDED_JOBS):
            del self._jobs[job.id]


def _stopping() -> ArasulError:
    return EngineDown("The daemon is stopping; ask again when it is back.")
