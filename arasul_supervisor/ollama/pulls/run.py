"""The way of one pull: attempts, their watch, and what follows the last line."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.errors import ArasulError, EngineRefused
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.ollama.pulls.failures import (
    PullPaused,
    RegistryTrouble,
    RetryPolicy,
    wait_before_attempt,
)
from arasul_supervisor.ollama.pulls.lines import SUCCESS
from arasul_supervisor.ollama.pulls.progress import DOWNLOADING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.lines import PullLine


@dataclass(frozen=True, slots=True)
class PullLimits:
    """How long things may take.

    `stall_s`: without a new figure while downloading; Ollama heals a stalled body itself after 30 s, so that a
    shorter limit would only disturb it; a registry that never answers is silent for ever (facts/ollama.md §0.8).
    `verify_s`: without a line while a digest is computed over tens of GB. `call_s`: each small call around it.
    `part_notes_s`: what Ollama needs to write down its progress after the connection was closed (§0.9).
    `after_pause_s`: how long a paused pull waits before it looks whether the engine is ready.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    stall_s: float = 60.0
    verify_s: float = 3600.0
    call_s: float = 30.0
    part_notes_s: float = 0.2
    after_pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PullTools:
    """What the runs of all pulls share.

    `wait_until_open` returns when the engine is ready and no pause is on. `is_wanted_elsewhere(name, job)` is
    True when another pull asks for that name. `after_change` is called when what is installed has changed.
    """

    client: OllamaClient
    catalogue: Catalogue
    clock: Clock
    limits: PullLimits
    wait_until_open: Callable[[], Awaitable[None]]
    is_wanted_elsewhere: Callable[[str, PullJob], bool]
    after_change: Callable[[], None]


class PullRun:
    """Runs one pull to its end."""

    def __init__(self, job: PullJob, tools: PullTools) -> None:
        self._job = job
        self._tools = tools
        self._stream: asyncio.Task[None] | None = None
        self._real_was_there: bool | None = None

    async def run(self) -> None:
        """Until the job is done or failed; a cancellation leaves its state to the owner."""
        n_fruitless = 0
        while True:
            await self._tools.wait_until_open()
            best_before = self._job.progress.best_bytes
            self._job.begin_attempt()
            error = await self._attempt()
            if error is None:
                self._job.succeed()
                return
            policy = self._tools.limits.retry
            gained = self._job.progress.best_bytes - best_before
            if not isinstance(error, PullPaused):
                n_fruitless = 0 if gained >= policy.fruitful_bytes else n_fruitless + 1
            wait_s = wait_before_attempt(error, n_fruitless, policy, bytes_seen=self._job.progress.best_bytes)
            if wait_s is None:
                self._job.fail(error)
                return
            self._job.begin_retry(error)
            await asyncio.sleep(wait_s)

    async def pause(self) -> bool:
        """Closes the stream if one is open; True then. The run goes on with its next attempt."""
        stream = self._stream
        if stream is None or stream.done():
            return False
        await end_task(stream)
        return True

    async def _attempt(self) -> ArasulError | None:
        try:
            await self._remember_what_was_there()
            await self._pull()
            await self._settle()
        except ArasulError as error:
            return error
        return None

    async def _remember_what_was_there(self) -> None:
        """Whether the real tag of an alias was installed before this pull; asked once."""
        if self._job.real == self._job.model or self._real_was_there is not None:
            return
        installed = await self._tools.client.tags(timeout_s=self._tools.limits.call_s)
        self._real_was_there = any(same_model(model.name, self._job.real) for model in installed)

    async def _pull(self) -> None:
        """One stream, in a task of its own, so that `pause` can end it alone."""
        self._stream = asyncio.create_task(self._follow(), name=f"pull-stream-{self._job.id}")
        try:
            await asyncio.wait({self._stream})
            if self._stream.cancelled():
                raise PullPaused
            self._stream.result()
        finally:
            await end_task(self._stream)
            self._stream = None

    async def _follow(self) -> None:
        """Reads the lines until `success`.

        :raises RegistryTrouble: when nothing moves for too long
        """
        watch = StallWatch(self._tools.limits, self._tools.clock.mono())
        pull = self._tools.client.pull(self._job.real, insecure=self._job.is_insecure)
        async with aclosing(pull) as lines:
            while True:
                try:
                    line = await within(anext(lines), watch.left_s(self._tools.clock.mono()))
                except asyncio.TimeoutError:
                    raise RegistryTrouble(
                        f"Pulling '{self._job.model}' stood still for {watch.patience_s:g} s.",
                        hint="The registry may be overloaded or out of reach.",
                    ) from None
                if line.status == SUCCESS:
                    return
                self._job.note(line)
                watch.note(line, self._tools.clock.mono())

    async def _settle(self) -> None:
        """Gives the model its asked name and looks whether it is there.

        :raises EngineRefused: when Ollama said success and does not list the model
        """
        job, client, call_s = self._job, self._tools.client, self._tools.limits.call_s
        if job.real != job.model:
            await client.copy(job.real, job.model, timeout_s=call_s)
            # The user knows only the alias: deleting it must free the bytes.
            if not self._real_was_there and not self._tools.is_wanted_elsewhere(job.real, job):
                await client.delete(job.real, timeout_s=call_s)
        self._tools.catalogue.invalidate()
        view = await self._tools.catalogue.models(timeout_s=call_s)
        if not any(same_model(model.name, job.model) for model in view.models):
            raise EngineRefused(f"Ollama said that '{job.model}' was pulled, and does not list it.")
        self._tools.after_change()


class StallWatch:
    """How long the next sign of progress may still take: pure but for what it remembers."""

    def __init__(self, limits: PullLimits, now_mono: float) -> None:
        self._limits = limits
        self._last: PullLine | None = None
        self._sign_mono = now_mono

    @property
    def patience_s(self) -> float:
        """Seconds that this phase may pass without a sign."""
        is_downloading = self._last is None or self._last.status.startswith(DOWNLOADING)
        return self._limits.stall_s if is_downloading else self._limits.verify_s

    def note(self, line: PullLine, now_mono: float) -> None:
        """A line came; the same figures again are no sign of progress."""
        if line != self._last:
            self._last = line
            self._sign_mono = now_mono

    def left_s(self, now_mono: float) -> float:
        """Seconds until it counts as stalled, never below 0."""
        return max(0.0, self._sign_mono + self.patience_s - now_mono)
