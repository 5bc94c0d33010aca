"""Guards the owner of the pulls: whatever comes in whatever order, each pull has one place, and no slot is lost.

The engine is a stand-in that fails, stalls and fills the disk at random; its steps take no time, so that hundreds of
orders pass in a second. What the real one does is in tests/real.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.bounded import end_task
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import DiskFull, EngineDown
from arasul_supervisor.model_store.manifests import Layer, Manifest
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.pull_errors import RegistryTrouble
from arasul_supervisor.ollama.pull_lines import SUCCESS, PullLine
from arasul_supervisor.ollama.pulls import parking, run
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.pulls.journal import PullJournal
from arasul_supervisor.ollama.pulls.retry import RetryPolicy
from arasul_supervisor.ollama.pulls.stall import PullLimits
from tests.api.stubs import StubLog

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from arasul_supervisor.ollama.pulls.job import PullJob

NAMES = ("one", "two", "three", "four")
SHARED = Layer(f"sha256:{'5' * 64}", 4_000_000, "")
LIMITS = PullLimits(
    retry=RetryPolicy(base_s=0.001, cap_s=0.004, patience_s=60, first_attempts=1000, engine_attempts=1000),
    part_notes_s=0.0,
    after_pause_s=0.001,
)


def layers_of(name: str) -> tuple[Layer, ...]:
    own = Layer(f"sha256:{NAMES.index(name):064x}", 2_000_000, "")
    return (SHARED, own) if name in NAMES[:2] else (own,)


@dataclass(slots=True)
class World:
    """The engine and the registry in one; faults stop when it is told to be calm."""

    rng: random.Random
    is_calm: bool = False
    installed: set[str] = field(default_factory=set)
    fetching: list[set[str]] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    refused_once: set[str] = field(default_factory=set)

    async def manifest(self, name: str, *, is_insecure: bool) -> Manifest | None:
        await self._turn()
        if name in self.refused_once:
            self.refused_once.discard(name)
            raise RegistryTrouble("Once.")
        return Manifest(layers_of(name))

    async def pull(self, name: str, *, insecure: bool) -> AsyncGenerator[PullLine, None]:
        missing = {layer.digest for layer in layers_of(name)}
        self.overlaps += [name for other in self.fetching if missing & other]
        self.fetching.append(missing)
        try:
            for layer in layers_of(name):
                await self._turn()
                missing.discard(layer.digest)  # from now on it is there for all
                yield PullLine("pulling", layer.digest, layer.size_bytes, layer.size_bytes)
            self.installed.add(name)
            yield PullLine(SUCCESS)
        finally:
            self.fetching = [other for other in self.fetching if other is not missing]

    async def models(self, *, timeout_s: float) -> Any:  # Any: as much of a CatalogueView as is looked at
        await self._turn()
        return Listing(tuple(Named(name) for name in self.installed))

    def invalidate(self) -> None:
        """Nothing is remembered here."""

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if not self.is_calm and self.rng.random() < 0.3:
            raise self.rng.choice([RegistryTrouble, EngineDown, DiskFull])("By chance.")


@dataclass(frozen=True, slots=True)
class Named:
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    models: tuple[Named, ...]
    broken: tuple[Named, ...] = ()


def books_are_wrong(jobs: PullJobs, n_slots: int) -> str | None:
    """What is wrong; None when each pull has one place and each slot one holder."""
    runs, waits, slots = jobs._runs, jobs._parking._waits, jobs._slots
    for job in jobs.jobs():
        places = [
            job.id in jobs._tasks and not jobs._tasks[job.id].done(),
            job in jobs._queue,
            job.id in waits and job.is_parked,
        ]
        # between the end of a run and its callback, one turn later, it has none
        if job.is_active and sum(places) != 1 and job.id not in jobs._tasks and job.id not in waits:
            return f"{job.model} is {job.state.value} and has the places {places}"
    held = sum(run.holds_slot for run in runs.values())
    handed = sum(turn.done() and not turn.cancelled() for turn in slots._returning)
    if slots._n_free + held + handed > n_slots:
        return f"{slots._n_free} free, {held} held, of {n_slots}"
    return None


@pytest.mark.parametrize("n_slots", [1, 2, 3])
async def test_each_pull_has_one_place_and_no_slot_is_lost_in_any_order_of_events(
    tmp_path: Path, rng: random.Random, n_slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "wait_before_look", lambda _n_parked: 0.002)
    monkeypatch.setattr(run, "LEND_FROM_S", 0.002)
    world: Any = World(rng)  # Any: it stands for client, catalogue and registry
    jobs = jobs_over(world, tmp_path, n_slots)
    await jobs.restore()
    callers: list[asyncio.Task[object]] = []
    for step in range(300):
        callers.append(asyncio.ensure_future(act(jobs, rng)))
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        if rng.random() < 0.2:
            await end_task(rng.choice(callers))  # who asked hangs up
        if step % 10 == 0:
            await asyncio.sleep(0.003)
        assert (wrong := books_are_wrong(jobs, n_slots)) is None, wrong
    for caller in callers:
        await end_task(caller)
    world.is_calm = True
    views = [await asyncio.wait_for(job.ended(), 10) for job in await calmed(jobs)]
    await asyncio.sleep(0.01)

    assert {view.state.value for view in views} == {"done"}
    assert (jobs._slots._n_free, len(jobs._tasks), world.overlaps) == (n_slots, 0, [])
    await jobs.close()


async def test_a_slot_that_is_handed_to_a_pull_as_it_is_cancelled_goes_to_the_next(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEND_FROM_S", 0.0)
    world: Any = World(rng, is_calm=True, refused_once={"one"})  # Any: see above
    jobs = jobs_over(world, tmp_path, 1)
    await jobs.restore()
    lender, runner, last = (jobs.begin(name, is_insecure=True) for name in ("one", "three", "four"))
    while runner.id not in jobs._tasks:  # noqa: ASYNC110 - turn by turn
        await asyncio.sleep(0)
    jobs._tasks[runner.id].add_done_callback(lambda _ended: jobs._tasks[lender.id].cancel())
    view = await asyncio.wait_for(last.ended(), 5)

    assert (view.state.value, lender.state.value) == ("done", "cancelled")
    await jobs.close()


async def test_what_was_read_is_kept_at_once_and_an_id_that_stands_twice_counts_once(
    tmp_path: Path, rng: random.Random
) -> None:
    record = '{"id":"a","model":"one","real":"one","insecure":true,"state":"running","created_at":1.0}'
    text = f'{{"version":1,"pulls":[{record},{{"id":5}},{record}]}}'
    await asyncio.to_thread((tmp_path / "pulls.json").write_text, text)
    world: Any = World(rng, is_calm=True)  # Any: see above
    jobs = jobs_over(world, tmp_path, 1)
    await jobs.restore()
    await jobs.noted()
    next_life = PullJournal(tmp_path / "pulls.json", StubLog())
    kept = await next_life.read()
    await next_life.close()
    view = await asyncio.wait_for(jobs.job("a").ended(), 5)
    await jobs.close()

    assert [one.id for one in kept] == ["a"]
    assert (view.state.value, len(jobs.jobs())) == ("done", 1)


def jobs_over(world: Any, state: Path, n_slots: int) -> PullJobs:  # Any: see above
    async def ready() -> None:
        await asyncio.sleep(0)

    (state / "store").mkdir()
    return PullJobs(
        world,
        world,
        registry=world,
        store=StoreReader(state / "store"),
        journal=PullJournal(state / "pulls.json", StubLog()),
        open_files=lambda _folder: frozenset(),
        aliases=Aliases({}),
        clock=SystemClock(),
        wait_ready=ready,
        concurrency=n_slots,
        after_change=lambda: None,
        limits=LIMITS,
    )


async def act(jobs: PullJobs, rng: random.Random) -> object:
    """One of the things that callers do."""
    known = jobs.jobs()
    match rng.randrange(5):
        case 0 if known:
            return await jobs.cancel(rng.choice(known).id)
        case 1:
            return await jobs.pause()
        case 2:  # whoever hears of an end asks again in the same turn
            job = jobs.begin(rng.choice(NAMES), is_insecure=True)
            await job.ended()
            return jobs.begin(job.model, is_insecure=True)
        case _:
            return jobs.begin(rng.choice(NAMES), is_insecure=True)


async def calmed(jobs: PullJobs) -> list[PullJob]:
    """One pull of each name; what was parked before the calm is asked for again."""
    await asyncio.sleep(0.05)
    return [jobs.begin(name, is_insecure=True) for name in NAMES]
