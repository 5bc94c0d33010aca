"""The way of one pull: attempts, their watch, and what follows the last line."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.errors import ArasulError, DiskFull, EngineDown, EngineRefused, ModelNotFound
from arasul_supervisor.ollama.names import canonical, same_model
from arasul_supervisor.ollama.pull_errors import DamagedPart, DigestMismatch, RegistryTrouble, TooManyRequests
from arasul_supervisor.ollama.pull_lines import SUCCESS
from arasul_supervisor.ollama.pulls.job import QUEUED
from arasul_supervisor.ollama.pulls.outlook import Outlook
from arasul_supervisor.ollama.pulls.registry import RegistryAsksToWait
from arasul_supervisor.ollama.pulls.retry import NotWhole, PullPaused, Setbacks, wait_before_attempt
from arasul_supervisor.ollama.pulls.room import disk_full, has_room, missing_bytes
from arasul_supervisor.ollama.pulls.stall import StallWatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from arasul_supervisor.ollama.pulls.job import PullJob
    from arasul_supervisor.ollama.pulls.outlook import Found
    from arasul_supervisor.ollama.pulls.tools import PullTools

# A shorter wait is not worth the place in the order.
LEND_FROM_S: Final = 5.0


class PullRun:
    """Runs one pull until it is done, has failed, or must wait for room on the disk.

    `holds_slot`: it is one of those that run at once; False while it waits for long.
    """

    def __init__(self, job: PullJob, tools: PullTools) -> None:
        self.holds_slot = True
        self._job = job
        self._tools = tools
        self._stream: asyncio.Task[None] | None = None
        self._outlook = Outlook(
            job, tools.registry, tools.store, open_files=tools.open_files, clock=tools.clock
        )
        self._setbacks = Setbacks(has_bytes=job.has_begun)
        self._best_begun_bytes = 0
        self._since_mono = 0.0  # of this attempt, without what it waited for another pull
        self._host = canonical(job.order.real).partition("/")[0]

    async def run(self) -> None:
        """A cancellation leaves the job's state to the owner."""
        while True:
            await self._tools.wait_until_open()
            self._since_mono = self._tools.clock.mono()
            self._job.begin_attempt()
            self._tools.noted()
            error = await self._attempt()
            if error is None:
                self._job.is_there = True
                # Before it is told: a kill that follows the good news must not make it news again.
                await self._tools.noted_now()
                self._job.succeed()
                return
            if isinstance(error, DiskFull):
                await self._park(error)
                return
            self._count(error)
            wait_s = await self._wait_after(error)
            if wait_s is None:
                self._job.fail(error)
                return
            self._job.begin_retry(error, wait_s)
            if not isinstance(error, RegistryAsksToWait):  # its own wish costs no patience
                self._setbacks = replace(self._setbacks, fruitless_s=self._setbacks.fruitless_s + wait_s)
            await self._wait(wait_s)

    async def pause(self) -> bool:
        """Closes the stream if one is open; True then. The run goes on with its next attempt."""
        stream = self._stream
        if stream is None or stream.done():
            return False
        await end_task(stream)
        return True

    async def _wait(self, wait_s: float) -> None:
        if wait_s < LEND_FROM_S:
            await asyncio.sleep(wait_s)
            return
        async with self._slot_lent():
            await asyncio.sleep(wait_s)
            if not self._tools.slots.is_free:
                self._job.await_turn(QUEUED)

    @asynccontextmanager
    async def _slot_lent(self) -> AsyncGenerator[None, None]:
        """Others may run meanwhile; ends when a slot is ours again."""
        self.holds_slot = False
        self._tools.slot_lent()
        yield
        await self._tools.slots.take_again()
        self.holds_slot = True

    async def _attempt(self) -> ArasulError | None:
        try:
            await self._remember_what_was_there()
            await self._look_ahead()
            await self._tools.wait_until_open()  # it may be about to stop by now
            await self._pull()
            await self._settle()
        except ModelNotFound as error:
            return ModelNotFound(error.sentence, hint=self._tools.suggest(self._job.model))
        except ArasulError as error:
            return error
        finally:
            self._job.end_attempt()
        return None

    async def _remember_what_was_there(self) -> None:
        """Whether the real tag of an alias was installed before this pull; looked at once in the life of the job."""
        job = self._job
        if not job.order.is_alias or job.real_was_there is not None:
            return
        others, real = self._tools.others, job.order.real
        is_brought = others.brings_anew(real, job)
        installed = await self._tools.client.tags(timeout_s=self._tools.limits.call_s)
        is_brought = is_brought or others.brings_anew(real, job)
        job.real_was_there = not is_brought and any(same_model(model.name, real) for model in installed)
        await self._tools.noted_now()  # after the pull nobody can tell

    async def _look_ahead(self) -> None:
        """What there is to fetch, and whether there is room for it.

        :raises DiskFull: there is not
        :raises RegistryAsksToWait: the registry wants no request now
        """
        await self._outlook.ask_registry()
        found = await self._outlook.look()
        # Two requests for one blob: when one leaves while the other still asks for its size, Ollama 0.34.4 dies.
        while (other := self._tools.others.fetching_the_same(self._job, self._lacking(found))) is not None:
            self._job.await_turn(f"waiting for the pull of {other.model}")
            async with self._slot_lent():
                await other.is_idle.wait()
            found = await self._outlook.look()
            self._since_mono = self._tools.clock.mono()
        self._job.begin_fetching(found.on_disk or ())
        self._tools.noted()
        if found.on_disk is None or found.free_bytes is None:
            return
        missing = missing_bytes(found.on_disk)
        elsewhere = self._tools.others.remaining_bytes(self._job)
        if missing and not has_room(missing=missing, elsewhere=elsewhere, free=found.free_bytes):
            raise DiskFull("The disk is too full.")
        self._job.holds_room = True

    def _lacking(self, found: Found) -> frozenset[str]:
        """Its layers that are not complete; all, where that cannot be seen."""
        if found.on_disk is None:
            return frozenset(layer.digest for layer in self._outlook.layers)
        return frozenset(one.layer.digest for one in found.on_disk if not one.is_finished)

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
        order, clock = self._job.order, self._tools.clock
        watch = StallWatch(self._tools.limits, clock.mono())
        pull = self._tools.client.pull(order.real, insecure=order.is_insecure)
        async with aclosing(pull) as lines:
            while True:
                try:
                    line = await within(anext(lines), watch.left_s(clock.mono()))
                except asyncio.TimeoutError:
                    raise RegistryTrouble(
                        f"Pulling '{order.model}' stood still for {watch.patience_s:g} s.",
                        hint="The registry may be overloaded or out of reach.",
                    ) from None
                if line.status == SUCCESS:
                    return
                self._job.note(line)
                watch.note(line, clock.mono())

    async def _settle(self) -> None:
        """Gives the model its asked name and looks whether it is there, whole.

        :raises EngineRefused: when Ollama said success and does not list the model
        :raises NotWhole: when its manifest is none, or a layer is gone again, which the next attempt fetches: Ollama
            looks only once, and the removal of another model may have taken it
        """
        job, client, call_s = self._job, self._tools.client, self._tools.limits.call_s
        if job.order.is_alias:
            try:
                await client.copy(job.order.real, job.model, timeout_s=call_s)
            except ModelNotFound as error:
                raise EngineRefused(f"'{job.order.real}' was pulled and removed again at once.") from error
            job.needs_real = False
            # The user knows only the alias: deleting it must free the bytes.
            if not job.real_was_there and not self._tools.others.want(job.order.real, job):
                with suppress(ModelNotFound):
                    await client.delete(job.order.real, timeout_s=call_s)
        self._tools.catalogue.invalidate()
        view = await self._tools.catalogue.models(timeout_s=call_s)
        if not any(same_model(model.name, job.model) for model in view.models):
            raise EngineRefused(f"Ollama said that '{job.model}' was pulled, and does not list it.")
        for broken in view.broken:
            if same_model(broken.name, job.model):
                raise NotWhole(f"Ollama said that '{job.model}' was pulled. {broken.reason}")
        self._tools.after_change()

    async def _park(self, error: DiskFull) -> None:
        """Says what is needed and what is there, which Ollama's own words do not."""
        await asyncio.sleep(self._tools.limits.part_notes_s)
        found, folder = await self._outlook.look(), self._tools.store.folder
        missing = missing_bytes(found.on_disk) if found.on_disk is not None else None
        full = disk_full(
            self._job.model,
            said=error.sentence,
            missing=missing,
            elsewhere=self._tools.others.remaining_bytes(self._job),
            free=found.free_bytes,
            folder=str(folder or "the model store"),
        )
        if self._job.is_kept:
            self._job.park(full, free_bytes=found.free_bytes)
        else:
            self._job.fail(full)  # it was for its clients, and these are told so now

    def _count(self, error: ArasulError) -> None:
        if isinstance(error, PullPaused):
            return
        seen, took_s = self._setbacks, self._tools.clock.mono() - self._since_mono
        is_fruitful = self._job.progress.gained_bytes > 0
        self._setbacks = Setbacks(
            n_fruitless=0 if is_fruitful else seen.n_fruitless + 1,
            fruitless_s=0.0 if is_fruitful else seen.fruitless_s + took_s,
            has_bytes=seen.has_bytes or self._job.has_begun,
            has_answered=self._job.progress.is_manifest_known,
            n_engine_failures=self._engine_failures(error),
            n_mismatches=seen.n_mismatches + isinstance(error, (DigestMismatch, NotWhole)),
        )

    def _engine_failures(self, error: ArasulError) -> int:
        """In a row, since an attempt began with more on disk than any before."""
        begun_bytes = self._job.progress.begun_bytes
        is_further, self._best_begun_bytes = (
            begun_bytes > self._best_begun_bytes,
            max(begun_bytes, self._best_begun_bytes),
        )
        if is_further or not isinstance(error, EngineDown):
            return 0
        return self._setbacks.n_engine_failures + 1

    async def _wait_after(self, error: ArasulError) -> float | None:
        """Seconds until the next attempt, None when there is none; what can be cured in between is."""
        policy = self._tools.limits.retry
        wait_s = wait_before_attempt(error, self._setbacks, policy, host=self._host)
        if isinstance(error, TooManyRequests):
            self._outlook.forget_registry()  # asked by ourselves, it says how long to wait
        if wait_s is not None and isinstance(error, RegistryAsksToWait):
            return max(wait_s, error.wait_s)
        if wait_s is not None and isinstance(error, DamagedPart):
            await asyncio.sleep(self._tools.limits.part_notes_s)
            if await self._outlook.mend(fetched_elsewhere=self._tools.others.fetched_digests(self._job)):
                return 0.0
        return wait_s
