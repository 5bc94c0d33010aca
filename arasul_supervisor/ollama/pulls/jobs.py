"""The pulls of the daemon: queued, joined, watched, cancelled; they outlive watchers, the engine and the daemon."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import ArasulError, EngineDown, PullNotFound
from arasul_supervisor.ollama.job_ends import fail_by, oldest_ended
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.near_names import near_names, near_names_hint
from arasul_supervisor.ollama.pulls.job import PullJob
from arasul_supervisor.ollama.pulls.order import PullOrder
from arasul_supervisor.ollama.pulls.others import Others
from arasul_supervisor.ollama.pulls.parking import Parking
from arasul_supervisor.ollama.pulls.records import job_of, record_of
from arasul_supervisor.ollama.pulls.run import PullRun
from arasul_supervisor.ollama.pulls.slots import Slots
from arasul_supervisor.ollama.pulls.stall import PullLimits
from arasul_supervisor.ollama.pulls.tools import PullTools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.aliases import Aliases
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.pulls.journal import PullJournal
    from arasul_supervisor.ollama.pulls.registry import Registry

MAX_ENDED_JOBS: Final = 100
MAX_ACTIVE_JOBS: Final = 500


class PullCancelled(ArasulError):
    """The pull was cancelled; asked for again, it goes on from what is on disk."""

    code, status = "pull_cancelled", 409


class TooManyPulls(ArasulError):
    """Five hundred pulls are waiting already; ask again when some have ended."""

    code, status = "too_many_pulls", 409


class PullJobs:
    """Owns every pull and its task. All calls are made in the loop that runs them."""

    def __init__(
        self,
        client: OllamaClient,
        catalogue: Catalogue,
        *,
        registry: Registry,
        store: StoreReader,
        journal: PullJournal,
        open_files: Callable[[Path], Collection[str]],
        aliases: Aliases,
        clock: Clock,
        wait_ready: Callable[[], Awaitable[None]],
        concurrency: int,
        after_change: Callable[[], None],
        limits: PullLimits | None = None,
    ) -> None:
        """Remember the parts; nothing runs before `restore` or `begin`.

        :param open_files: absolute paths below a folder that the engine has open; blocks
        :param wait_ready: returns when the engine is ready; may wait for ever
        :param concurrency: pulls that run at once; the others queue in their order
        :param after_change: called after each pull that changed what is installed
        """
        self._aliases, self._catalogue, self._clock = aliases, catalogue, clock
        self._registry, self._store, self._journal = registry, store, journal
        self._wait_ready = wait_ready
        self._slots = Slots(concurrency)
        self._limits = limits or PullLimits()
        self._jobs: dict[str, PullJob] = {}
        self._queue: deque[PullJob] = deque()
        self._runs: dict[str, PullRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.others = Others(self._jobs)
        self._parking = Parking(store, self.others, go_on=self._go_on, fail=self._report)
        self._tools = PullTools(
            client=client,
            catalogue=catalogue,
            registry=registry,
            store=store,
            clock=clock,
            limits=self._limits,
            others=self.others,
            open_files=open_files,
            slots=self._slots,
            slot_lent=self._slot_freed,
            wait_until_open=self._wait_until_open,
            suggest=self._suggest,
            after_change=after_change,
            noted=self._note,
            noted_now=self._note_now,
        )
        self._closed_until_mono = 0.0
        self._is_closing = self._has_cut_streams = False

    async def restore(self) -> None:
        """Takes up what the last life of the daemon left, in its order. Called once, before the first `begin`."""
        for record in await self._journal.read():
            job = job_of(record, self._clock)
            if job.is_active and job.id not in self._jobs:
                self._queue.append(job)
            self._jobs.setdefault(job.id, job)
        self._note()
        self._start_next()

    def begin(self, name: str, *, is_insecure: bool, is_kept: bool = True) -> PullJob:
        """The job that pulls this model: the active one where there is one, else a new one.

        One that waits for room on the disk tries again at once.

        :param is_kept: it goes on without any client; a pull that nobody keeps does not outlive the daemon

        :raises EngineDown: the daemon is stopping
        :raises TooManyPulls: five hundred have not ended yet
        """
        if self._is_closing:
            raise EngineDown("The daemon is stopping; no pull begins any more.")
        job = next(
            (job for job in self._jobs.values() if job.is_active and same_model(job.model, name)), None
        )
        if job is None:
            if sum(job.is_active for job in self._jobs.values()) >= MAX_ACTIVE_JOBS:
                raise TooManyPulls
            job = PullJob(self._order(name, is_insecure=is_insecure), self._clock)
            self._jobs[job.id] = job
            self._queue.append(job)
        else:
            self._go_on(job)
        job.is_kept |= is_kept
        self._note()
        self._start_next()
        self._forget_oldest()
        return job

    async def noted(self) -> None:
        """Until what was begun outlives the daemon, or cannot (which the daemon's log says)."""
        await self._journal.noted()

    def job(self, job_id: str) -> PullJob:
        """One job, active or ended.

        :raises PullNotFound: when there is none of that id
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise PullNotFound from None

    def jobs(self) -> tuple[PullJob, ...]:
        """All jobs, newest first; of the ended ones the last hundred."""
        return tuple(reversed(self._jobs.values()))

    def pulling(self, name: str) -> PullJob | None:
        """The pull of that model, by its asked or its real name, that is queued or under way."""
        return next((job for job in self._jobs.values() if job.is_active and job.concerns(name)), None)

    async def cancel(self, job_id: str) -> PullJob:
        """Ends a pull; its parts stay on disk. One that has ended stays as it is.

        :raises PullNotFound: when there is none of that id
        """
        job = self.job(job_id)
        # Told at once: whoever asked may hang up while the tasks end.
        job.cancel(PullCancelled())
        if job in self._queue:
            self._queue.remove(job)
        self._note()
        if (task := self._tasks.get(job_id)) is not None:
            await end_task(task)
        await self._parking.leave(job)
        await self._journal.noted()
        return job

    async def pause(self) -> bool:
        """Closes the open streams before the engine is stopped, and waits until Ollama has noted their progress.

        True when there were any. The jobs go on by themselves once the engine is ready again. SIGTERM in the
        middle of a pull can damage it (facts/ollama.md §0.9).
        """
        self._closed_until_mono = self._clock.mono() + self._limits.part_notes_s + self._limits.after_pause_s
        closed = await asyncio.gather(*(run.pause() for run in tuple(self._runs.values())))
        if not any(closed) and not self._has_cut_streams:
            return False
        await asyncio.sleep(self._limits.part_notes_s)
        return True

    async def close(self) -> None:
        """Ends every task; the watchers get a last line. What has not ended goes on in the daemon's next life."""
        self._is_closing = True
        self._has_cut_streams = bool(self._tasks)
        for task in tuple(self._tasks.values()):
            await end_task(task)
        await self._parking.close()
        for job in self._jobs.values():
            if job.is_kept:
                job.suspend(self._stopping())
            else:
                job.cancel(PullCancelled("The daemon is stopping, and nobody asked for this pull to go on."))
        self._note()
        await self._journal.close()

    def _order(self, name: str, *, is_insecure: bool) -> PullOrder:
        real = self._aliases.resolve(name)
        return PullOrder(
            id=os.urandom(6).hex(),
            model=name,
            real=name if same_model(real, name) else real,
            is_insecure=is_insecure,
            created_at=self._clock.wall(),
        )

    def _note(self) -> None:
        self._journal.note([record_of(job) for job in self._jobs.values()])

    async def _note_now(self) -> None:
        self._note()
        await self._journal.noted()

    def _start_next(self) -> None:
        while self._queue and not self._is_closing and self._slots.take():
            job = self._queue.popleft()
            run = PullRun(job, self._tools)
            task = asyncio.get_running_loop().create_task(run.run(), name=f"pull-{job.id}")
            self._runs[job.id], self._tasks[job.id] = run, task
            task.add_done_callback(partial(self._run_ended, job, run))

    def _run_ended(self, job: PullJob, run: PullRun, task: asyncio.Task[None]) -> None:
        if self._tasks.get(job.id) is task:  # else it parked, and was asked for again before this was called
            del self._runs[job.id], self._tasks[job.id]
        if task.cancelled():
            if not self._is_closing:
                job.cancel(PullCancelled())
        elif (error := task.exception()) is not None:
            self._report(job, task, error)
        if job.is_parked and not self._is_closing:
            self._parking.enter(job)
        self._note()
        if run.holds_slot:
            self._slots.give_back()
        self._start_next()  # also when it held none: it may have given on one that it was just handed
        self._forget_oldest()

    def _slot_freed(self) -> None:
        self._slots.give_back()
        self._start_next()

    def _report(self, job: PullJob, task: asyncio.Task[None], error: BaseException) -> None:
        """A run or a wait ended by an error."""
        fail_by(error, job, task, what=f"Pulling '{job.model}'")
        self._note()

    def _go_on(self, job: PullJob) -> None:
        """A parked pull is queued again; one that is not parked any more stays as it is."""
        if not job.is_parked:
            return
        job.unpark()
        self._queue.append(job)
        self._note()
        self._start_next()

    def _forget_oldest(self) -> None:
        for job in oldest_ended(self._jobs.values(), kept=MAX_ENDED_JOBS):
            del self._jobs[job.id]

    async def _wait_until_open(self) -> None:
        while True:
            while (left_s := self._closed_until_mono - self._clock.mono()) > 0:  # noqa: ASYNC110 - may grow
                await asyncio.sleep(left_s)
            await self._wait_ready()
            if self._closed_until_mono <= self._clock.mono():  # or one began while it got ready
                return

    def _suggest(self, name: str) -> str | None:
        installed = [model.name for model in self._catalogue.known]
        return near_names_hint(near_names(name, installed=installed, aliases=self._aliases.names))

    def _stopping(self) -> ArasulError:
        if self._journal.is_kept:
            return EngineDown("The daemon is stopping; this pull goes on at its next start.")
        return EngineDown("The daemon is stopping; asked for again, this pull goes on from where it stood.")
