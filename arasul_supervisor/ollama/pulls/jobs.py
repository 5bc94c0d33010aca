"""The pulls of the daemon: queued, joined, watched, cancelled; they go on when their watchers leave."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import ArasulError, EngineDown, PullNotFound
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.pulls.job import PullJob, PullState
from arasul_supervisor.ollama.pulls.run import PullLimits, PullRun, PullTools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.aliases import Aliases
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.client import OllamaClient

MAX_ENDED_JOBS: Final = 100


class PullCancelled(ArasulError):
    """The pull was cancelled; asked for again, it goes on from where it stood."""

    code, status = "pull_cancelled", 409


class PullJobs:
    """Owns every pull and its task. All calls are made in the loop that runs them."""

    def __init__(
        self,
        client: OllamaClient,
        catalogue: Catalogue,
        *,
        aliases: Aliases,
        clock: Clock,
        wait_ready: Callable[[], Awaitable[None]],
        concurrency: int,
        after_change: Callable[[], None],
        limits: PullLimits | None = None,
    ) -> None:
        """Remember the parts.

        :param wait_ready: returns when the engine is ready; may wait for ever
        :param concurrency: pulls that run at once; the others queue in their order
        :param after_change: called after each pull that changed what is installed
        """
        self._aliases = aliases
        self._clock = clock
        self._wait_ready = wait_ready
        self._concurrency = concurrency
        self._limits = limits or PullLimits()
        self._tools = PullTools(
            client,
            catalogue,
            clock,
            self._limits,
            self._wait_until_open,
            self._is_wanted_elsewhere,
            after_change,
        )
        self._jobs: dict[str, PullJob] = {}
        self._queue: deque[PullJob] = deque()
        self._runs: dict[str, PullRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed_until_mono = 0.0
        self._is_closing = self._has_cut_streams = False

    def begin(self, name: str, *, is_insecure: bool) -> PullJob:
        """The job that pulls this model: the active one where there is one, else a new one."""
        if self._is_closing:
            raise EngineDown("The daemon is stopping; no pull begins any more.")
        for job in self._jobs.values():
            if job.is_active and same_model(job.model, name):
                return job
        real = self._aliases.resolve(name)
        job = PullJob(
            secrets.token_hex(6),
            name,
            real=name if same_model(real, name) else real,
            is_insecure=is_insecure,
            clock=self._clock,
        )
        self._jobs[job.id] = job
        self._queue.append(job)
        self._start_next()
        self._forget_oldest()
        return job

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

    def is_pulling(self, name: str) -> bool:
        """True while a pull of that model, by its asked or its real name, is queued or under way."""
        return any(job.is_active and job.concerns(name) for job in self._jobs.values())

    def watch(self, job_id: str) -> AsyncGenerator[Mapping[str, object], None]:
        """The lines of a pull, see `PullJob.watch`.

        :raises PullNotFound: at the call, not at the first line
        """
        return self.job(job_id).watch()

    async def cancel(self, job_id: str) -> PullJob:
        """Ends a pull; its parts stay on disk. One that has ended stays as it is.

        :raises PullNotFound: when there is none of that id
        """
        job = self.job(job_id)
        task = self._tasks.get(job_id)
        if task is not None:
            await end_task(task)
        elif job in self._queue:
            self._queue.remove(job)
        job.cancel(PullCancelled())
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
        """Ends every pull and its task; the watchers get a last line."""
        self._is_closing = True
        self._has_cut_streams = bool(self._tasks)
        while self._queue:
            self._queue.popleft().cancel(_stopping())
        for task in tuple(self._tasks.values()):
            await end_task(task)

    def _start_next(self) -> None:
        while self._queue and len(self._tasks) < self._concurrency and not self._is_closing:
            job = self._queue.popleft()
            run = PullRun(job, self._tools)
            task = asyncio.get_running_loop().create_task(run.run(), name=f"pull-{job.id}")
            self._runs[job.id], self._tasks[job.id] = run, task
            task.add_done_callback(partial(self._run_ended, job))

    def _run_ended(self, job: PullJob, task: asyncio.Task[None]) -> None:
        del self._runs[job.id], self._tasks[job.id]
        if task.cancelled():
            job.cancel(_stopping() if self._is_closing else PullCancelled())
        elif (error := task.exception()) is not None:
            self._report(job, task, error)
        self._start_next()
        self._forget_oldest()

    def _report(self, job: PullJob, task: asyncio.Task[None], error: BaseException) -> None:
        """A run ended by an error: the job fails; what nobody foresaw also goes to the loop's handler."""
        if isinstance(error, ArasulError):
            job.fail(error)
            return
        job.fail(
            ArasulError(f"Pulling '{job.model}' ended by a fault of this daemon: {type(error).__name__}.")
        )
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a pull ended by a fault", "exception": error, "task": task}
        )

    def _forget_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if not job.is_active]
        for job_id in ended[: max(0, len(ended) - MAX_ENDED_JOBS)]:
            del self._jobs[job_id]

    async def _wait_until_open(self) -> None:
        while (left_s := self._closed_until_mono - self._clock.mono()) > 0:  # noqa: ASYNC110 - a pause may grow
            await asyncio.sleep(left_s)
        await self._wait_ready()

    def _is_wanted_elsewhere(self, name: str, asking: PullJob) -> bool:
        """True when another job pulls that name, or has pulled it and is still remembered."""
        return any(
            job is not asking and job.state in _KEEPS_ITS_MODEL and same_model(job.model, name)
            for job in self._jobs.values()
        )


_KEEPS_ITS_MODEL: Final = frozenset({PullState.QUEUED, PullState.RUNNING, PullState.RETRYING, PullState.DONE})


def _stopping() -> ArasulError:
    return EngineDown("The daemon is stopping; asked for again, this pull goes on from where it stood.")
