"""Guards pulls against what comes between their steps: callers that hang up, removals, restarts, other pulls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.bounded import end_task
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.pulls.jobs import MAX_ACTIVE_JOBS, TooManyPulls
from arasul_supervisor.ollama.pulls.journal import PullJournal, PullRecord
from arasul_supervisor.ollama.pulls.registry import MAX_MANIFEST_BYTES
from arasul_supervisor.ollama.pulls.retry import RetryPolicy
from arasul_supervisor.ollama.pulls.stall import PullLimits
from tests.api.raw import eventually
from tests.api.stubs import StubLog
from tests.engine.pull_ground import BLOB, SLOWLY, empty_notes, first_bytes, pulls_of
from tests.engine.store import Layers, blob_path, digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry

SHARED = b"licence" * 1000
BLOB_PATH = f"blobs/{digest_of(BLOB)}"


@pytest.mark.parametrize("n_turns", [0, 1, 2, 5])
async def test_a_cancel_whose_caller_hangs_up_is_a_cancel(
    bare_engine: BareEngine, registry: Registry, n_turns: int
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        caller = asyncio.create_task(pulls.jobs.cancel(job.id))
        for _ in range(n_turns + 1):
            await asyncio.sleep(0)
        await end_task(caller)
        registry.switches.bytes_per_s = 0
        again = pulls.jobs.begin(name, is_insecure=True)
        view = await asyncio.wait_for(again.ended(), 20)

    assert job.state is JobState.CANCELLED
    assert (again is job, view.state) == (False, JobState.DONE)


async def test_a_layer_that_a_removal_takes_from_a_pull_is_fetched_anew(
    bare_engine: BareEngine, registry: Registry
) -> None:
    old, new = registry.put_layers("old", [b"old", SHARED]), registry.put_layers("new", [SHARED, BLOB])
    async with pulls_of(bare_engine) as pulls:
        await pulls.jobs.begin(old, is_insecure=True).ended()
        registry.switches.bytes_per_s = SLOWLY
        job = pulls.jobs.begin(new, is_insecure=True)
        await first_bytes(pulls, job)
        await asyncio.sleep(0.5)  # the shared layer was found on disk, the large one comes
        await pulls.client.delete(old, timeout_s=5)
        was_gone = not await asyncio.to_thread(blob_path(bare_engine.store, digest_of(SHARED)).exists)
        registry.switches.bytes_per_s = 0
        view = await asyncio.wait_for(job.ended(), 30)
        is_there = await asyncio.to_thread(blob_path(bare_engine.store, digest_of(SHARED)).exists)

    assert was_gone
    assert (view.state, view.attempts, is_there) == (JobState.DONE, 2, True)


async def test_two_pulls_of_one_damaged_part_mend_it_between_them(
    bare_engine: BareEngine, registry: Registry
) -> None:
    real = registry.put_bytes("real", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine, aliases={"known:q8": real}) as pulls:
        job = pulls.jobs.begin(real, is_insecure=True)
        await first_bytes(pulls, job)
        await pulls.jobs.cancel(job.id)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(empty_notes, bare_engine.store)
        registry.switches.bytes_per_s = 0
        jobs = [pulls.jobs.begin(name, is_insecure=True) for name in (real, "known:q8")]
        views = [await asyncio.wait_for(job.ended(), 30) for job in jobs]

    assert [view.state for view in views] == [JobState.DONE, JobState.DONE]


async def test_a_pull_that_had_bytes_before_the_restart_waits_for_its_registry(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path
) -> None:
    name = registry.put_bytes("new", BLOB)
    record = PullRecord("0123456789ab", name, name, True, "running", 1.7e9, attempts=1, completed=1000)
    await write_journal(tmp_path, record)
    await asyncio.to_thread(registry.stop)
    limits = PullLimits(retry=RetryPolicy(base_s=0.05, cap_s=0.1), after_pause_s=0.1)
    async with pulls_of(bare_engine, limits=limits, state=tmp_path) as pulls:
        job = pulls.jobs.job(record.id)
        for _ in range(200):
            if job.attempts > 6:
                break
            await asyncio.sleep(0.05)
        await asyncio.to_thread(registry.come_back)
        view = await asyncio.wait_for(job.ended(), 20)

    assert view.state is JobState.DONE
    assert view.attempts > 6


async def write_journal(folder: Path, *records: PullRecord) -> None:
    journal = PullJournal(folder / "pulls.json", StubLog())
    await journal.read()
    journal.note(records)
    await journal.close()


async def test_a_pull_that_only_looks_at_its_manifest_begins_nothing_while_the_engine_stops(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.silent_on = frozenset({"manifest"})
    limits = PullLimits(part_notes_s=0.1, after_pause_s=1.0)
    async with pulls_of(bare_engine, limits=limits, look_s=0.5) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await asyncio.sleep(0.2)
        pulls.ready.clear()
        await pulls.jobs.pause()
        await asyncio.sleep(0.6)  # the look is over
        asked_meanwhile = registry.requests("manifest")
        registry.switches.silent_on = frozenset()
        pulls.ready.set()
        view = await asyncio.wait_for(job.ended(), 20)

    assert asked_meanwhile == 0
    assert view.state is JobState.DONE


async def test_the_journal_knows_the_layers_of_a_first_attempt(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine, state=tmp_path) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        await pulls.jobs.noted()
        other = PullJournal(tmp_path / "pulls.json", StubLog())
        (kept,) = await other.read()
        await other.close()

    assert digest_of(BLOB) in kept.digests
    assert kept.total == job.view().total


async def test_more_pulls_than_anybody_can_mean_are_refused(
    bare_engine: BareEngine, registry: Registry
) -> None:
    async with pulls_of(bare_engine) as pulls:
        pulls.ready.clear()
        for n in range(MAX_ACTIVE_JOBS):
            pulls.jobs.begin(registry.name(f"m{n}"), is_insecure=True)
        joined = pulls.jobs.begin(registry.name("m1"), is_insecure=True)
        with pytest.raises(TooManyPulls):
            pulls.jobs.begin(registry.name("one-more"), is_insecure=True)

    assert joined.is_active


async def test_a_pull_that_waits_for_long_holds_up_no_other(
    bare_engine: BareEngine, registry: Registry
) -> None:
    away, there = registry.put_bytes("away", BLOB), registry.put_bytes("there", b"x" * 1000)
    registry.switches.manifest_status, registry.switches.retry_after = 429, "6"
    async with pulls_of(bare_engine, concurrency=1) as pulls:
        waiting = pulls.jobs.begin(away, is_insecure=True)
        await eventually(lambda: waiting.state is JobState.RETRYING)
        registry.switches.manifest_status = 200
        other = await asyncio.wait_for(pulls.jobs.begin(there, is_insecure=True).ended(), 5)
        meanwhile = waiting.state
        view = await asyncio.wait_for(waiting.ended(), 20)

    assert (other.state, meanwhile, view.state) == (JobState.DONE, JobState.RETRYING, JobState.DONE)


async def test_of_two_pulls_of_one_blob_the_second_waits_and_its_cancel_harms_nobody(
    bare_engine: BareEngine, registry: Registry
) -> None:
    one, two = registry.put_bytes("one", BLOB), registry.put_bytes("two", BLOB)
    registry.switches.silent_on = frozenset({"HEAD"})
    async with pulls_of(bare_engine) as pulls:
        first = pulls.jobs.begin(one, is_insecure=True)
        await eventually(lambda: registry.requests("HEAD") > 0)
        second = pulls.jobs.begin(two, is_insecure=True)
        await eventually(lambda: second.view().status == f"waiting for the pull of {one}")
        waiting = second.view()
        await pulls.jobs.cancel(second.id)
        await asyncio.sleep(0.3)
        installed = await pulls.client.tags(timeout_s=5)  # the engine lives
        attempts = first.attempts

    assert (waiting.state, waiting.completed) == (JobState.QUEUED, 0)
    assert (len(installed), attempts) == (1, 1)


async def test_a_second_pull_of_one_blob_goes_on_when_the_first_has_brought_it(
    bare_engine: BareEngine, registry: Registry
) -> None:
    one, two = registry.put_bytes("one", BLOB), registry.put_bytes("two", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        jobs = [pulls.jobs.begin(name, is_insecure=True) for name in (one, two)]
        views = [await asyncio.wait_for(job.ended(), 30) for job in jobs]

    assert [view.state for view in views] == [JobState.DONE, JobState.DONE]
    assert sum(served.sent_bytes for served in registry.ranges() if BLOB_PATH in served.path) == len(BLOB)


async def test_a_manifest_that_is_none_is_never_called_done(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.models[name.partition("/")[2]] = Layers(b"null", {})
    limits = PullLimits(retry=RetryPolicy(base_s=0.05, cap_s=0.1))
    async with pulls_of(bare_engine, limits=limits) as pulls:
        view = await asyncio.wait_for(pulls.jobs.begin(name, is_insecure=True).ended(), 20)

    assert (view.state, view.attempts) == (JobState.FAILED, 3)
    assert view.error is not None
    assert "manifest" in view.error


async def test_a_manifest_without_end_never_reaches_ollama(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.models[name.partition("/")[2]] = Layers(b" " * (MAX_MANIFEST_BYTES + 1), {})
    async with pulls_of(bare_engine) as pulls:
        view = await asyncio.wait_for(pulls.jobs.begin(name, is_insecure=True).ended(), 20)

    assert (view.state, view.attempts) == (JobState.FAILED, 1)
    assert (registry.looks(), registry.requests("manifest")) == (1, 0)
