"""Guards CONTRACT §4 pulls on the real engine: joined, queued, watched, retried, cancelled, and never falsely done."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.errors import EngineDown, ModelNotFound, PullNotFound, RegistryError
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.pulls.stall import PullLimits
from tests.engine.store import blob_path, digest_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry

from tests.engine.pull_ground import (
    BLOB,
    QUICK,
    SLOWLY,
    asyncio_timeout,
    first_bytes,
    lines_of,
    pulls_of,
    watch,
)


async def test_a_pull_shows_its_steps_and_ends_with_success(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        await pulls.catalogue.models(timeout_s=3)
        job = pulls.jobs.begin(name, is_insecure=True)
        was_pulling = pulls.jobs.pulling(name) is job
        lines = await lines_of(pulls, job)
        installed = await pulls.catalogue.models(timeout_s=3)

    view = job.view()
    steps = [line["completed"] for line in lines if line.get("digest") == digest_of(BLOB)]
    assert was_pulling and pulls.jobs.pulling(name) is None
    assert lines[-1] == {"status": "success"}
    assert steps == sorted(steps, key=lambda step: int(str(step)))
    assert len(set(steps)) > 3
    assert (view.state, view.kind, view.attempts, view.error) == ("done", "pull", 1, None)
    assert view.total is not None and view.total == view.completed >= len(BLOB)
    assert view.started_at is not None and view.finished_at is not None
    assert name in [model.name for model in installed.models]
    assert pulls.n_changes == 1


async def test_two_watchers_share_one_job_and_one_download(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        early = asyncio.create_task(lines_of(pulls, job))
        await first_bytes(pulls, job)
        same = pulls.jobs.begin(name.upper().replace("LIBRARY", "library"), is_insecure=True)
        late = await lines_of(pulls, same)

    assert same is job
    assert (await early)[-1] == late[-1] == {"status": "success"}
    assert late[0]["digest"] == digest_of(BLOB)
    assert registry.requests("manifest") == 1


async def test_a_pull_goes_on_when_its_watcher_leaves(bare_engine: BareEngine, registry: Registry) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        watcher = asyncio.create_task(lines_of(pulls, job))
        await first_bytes(pulls, job)
        watcher.cancel()
        view = await asyncio.wait_for(job.ended(), 20)

    assert view.state == "done"


async def test_while_a_pull_runs_its_speed_and_time_left_are_told(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        await asyncio.sleep(1.0)
        view = job.view()

    assert view.state == "running"
    assert view.speed_bytes_per_s is not None
    assert 0.3 * SLOWLY < view.speed_bytes_per_s < 3 * SLOWLY
    assert view.eta_s is not None
    assert 0.2 < view.eta_s < 10


async def test_pulls_beyond_the_limit_queue_in_their_order(
    bare_engine: BareEngine, registry: Registry
) -> None:
    names = [registry.put_bytes(f"m{n}", BLOB + bytes([n])) for n in range(3)]
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine, concurrency=1) as pulls:
        jobs = [pulls.jobs.begin(name, is_insecure=True) for name in names]
        await first_bytes(pulls, jobs[0])
        states = [job.state.value for job in jobs]
        first_line = await anext(watch(jobs[2]))
        dropped = await pulls.jobs.cancel(jobs[1].id)
        registry.switches.bytes_per_s = 0
        last = await asyncio.wait_for(jobs[2].ended(), 20)
        listed = pulls.jobs.jobs()

    assert states == ["running", "queued", "queued"]
    assert first_line["status"] == "queued"
    assert (dropped.state.value, last.state) == ("cancelled", "done")
    assert list(listed) == jobs[::-1]


async def test_a_cancelled_pull_stops_and_goes_on_when_asked_again(
    bare_engine: BareEngine, registry: Registry, tiny_model_store: Path
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        watcher = asyncio.create_task(lines_of(pulls, job))
        await first_bytes(pulls, job)
        await pulls.jobs.cancel(job.id)
        last = (await watcher)[-1]
        is_unfinished = not await asyncio.to_thread(blob_path(tiny_model_store, digest_of(BLOB)).exists)
        registry.switches.bytes_per_s = 0
        again = pulls.jobs.begin(name, is_insecure=True)
        await asyncio.wait_for(again.ended(), 20)

    assert is_unfinished
    assert (job.view().state, last["code"]) == ("cancelled", "pull_cancelled")
    assert isinstance(last["error"], str)
    assert again is not job
    assert again.view().state == "done"


async def test_an_alias_pulls_the_real_tag_and_leaves_the_asked_name_alone(
    bare_engine: BareEngine, registry: Registry, tiny_model_store: Path
) -> None:
    real = registry.put_bytes("real", BLOB)
    async with pulls_of(bare_engine, aliases={"known:q8": real}) as pulls:
        job = pulls.jobs.begin("known:q8", is_insecure=True)
        is_pulling_real = pulls.jobs.pulling(real) is job
        view = await asyncio.wait_for(job.ended(), 20)
        names = [model.name for model in (await pulls.catalogue.models(timeout_s=3)).models]
        await pulls.client.delete("known:q8", timeout_s=5)
        is_freed = not await asyncio.to_thread(blob_path(tiny_model_store, digest_of(BLOB)).exists)

    assert (view.state, view.model) == ("done", "known:q8")
    assert is_pulling_real
    assert sorted(names) == ["known:q8", "tiny:latest"]
    assert is_freed


async def test_an_alias_leaves_a_real_tag_that_was_there_before(
    bare_engine: BareEngine, registry: Registry
) -> None:
    real = registry.put_bytes("real", BLOB)
    async with pulls_of(bare_engine, aliases={"known:q8": real}) as pulls:
        await pulls.jobs.begin(real, is_insecure=True).ended()
        await pulls.jobs.begin("known:q8", is_insecure=True).ended()
        names = [model.name for model in (await pulls.catalogue.models(timeout_s=3)).models]

    assert sorted(names) == sorted(["known:q8", real, "tiny:latest"])


async def test_an_unknown_model_fails_at_once(bare_engine: BareEngine, registry: Registry) -> None:
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(registry.name("nope"), is_insecure=True)
        lines = await lines_of(pulls, job)

    assert (job.view().state, job.attempts) == ("failed", 1)
    assert isinstance(job.failure, ModelNotFound)
    assert "file does not exist" in str(lines[-1]["error"])


async def test_a_registry_that_stays_broken_is_given_up_after_three_attempts(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.manifest_status = 500
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        lines = await lines_of(pulls, job)

    assert (job.view().state, job.attempts) == ("failed", 3)
    assert isinstance(job.failure, RegistryError)
    assert "resuming" in [line.get("status") for line in lines]


async def test_a_silent_registry_is_asked_again(bare_engine: BareEngine, registry: Registry) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.silent_on = frozenset({"manifest"})
    registry.switches.faults_left = 2  # our own look at the manifest meets the first
    limits = PullLimits(retry=QUICK.retry, stall_s=0.5)
    async with pulls_of(bare_engine, limits=limits, look_s=3.0) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        lines = await lines_of(pulls, job)

    assert lines[-1] == {"status": "success"}
    assert job.attempts == 2
    assert any("stood still" in str(line.get("reason")) for line in lines)


async def test_a_pull_survives_the_death_of_the_engine(bare_engine: BareEngine, registry: Registry) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        watcher = asyncio.create_task(lines_of(pulls, job))
        await first_bytes(pulls, job)
        pulls.ready.clear()
        os.kill(bare_engine.pid, signal.SIGKILL)
        async with asyncio_timeout(20):
            async for line in watch(job):
                if line.get("status") == "waiting to retry":
                    break
        waiting = job.view()
        await pulls.jobs.close()

    assert (waiting.state, waiting.speed_bytes_per_s) == ("retrying", None)
    assert waiting.error is not None and "closed the connection" in waiting.error
    assert job.is_active  # the daemon's next life takes it up
    assert isinstance(job.setback, EngineDown)
    assert (await watcher)[-1]["error"] == job.setback.sentence


async def test_a_pause_closes_the_stream_and_the_pull_goes_on_by_itself(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        pulls.ready.clear()
        had_streams = await pulls.jobs.pause()
        n_ranges = len(registry.ranges())
        paused = job.view().state
        pulls.ready.set()
        view = await asyncio.wait_for(job.ended(), 20)
        has_none = await pulls.jobs.pause()

    assert (had_streams, has_none) == (True, False)
    assert paused == "retrying"
    assert n_ranges > 0  # the registry saw its connection end
    assert (view.state, view.attempts) == ("done", 2)


@contextmanager
def killed_and_started_anew(engine: BareEngine) -> Iterator[None]:
    """Ends the engine by SIGKILL and starts the same one on the same port."""
    environment = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{engine.pid}/environ").read_text().split("\0") if entry
    )
    executable = str(Path(f"/proc/{engine.pid}/exe").readlink())
    os.kill(engine.pid, signal.SIGKILL)
    os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
    with engine.log.open("ab") as log:
        command = [executable, "serve"]
        second = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        second.terminate()
        second.wait(20)


@pytest.mark.blocking  # starts a process as a person would
async def test_a_pull_goes_on_with_the_next_engine(bare_engine: BareEngine, registry: Registry) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        with killed_and_started_anew(bare_engine):
            registry.switches.bytes_per_s = 0
            view = await asyncio.wait_for(job.ended(), 20)
            installed = await pulls.client.tags(timeout_s=5)

    assert (view.state, view.error) == ("done", None)
    assert view.attempts > 1
    assert name in [model.name for model in installed]


async def test_a_name_with_a_scheme_is_pulled_and_found(bare_engine: BareEngine, registry: Registry) -> None:
    name = registry.put_bytes("new", BLOB)
    async with pulls_of(bare_engine) as pulls:
        view = await asyncio.wait_for(pulls.jobs.begin(f"http://{name}", is_insecure=True).ended(), 20)

    assert view.state == "done"


async def test_pulls_cancelled_at_any_moment_leave_nothing_behind(
    bare_engine: BareEngine, registry: Registry, rng: random.Random
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        for _ in range(40):
            job = pulls.jobs.begin(name, is_insecure=True)
            await asyncio.sleep(rng.random() * 0.05)
            await asyncio.gather(pulls.jobs.cancel(job.id), pulls.jobs.pause(), pulls.jobs.cancel(job.id))
        states = {job.state for job in pulls.jobs.jobs()}
        registry.switches.bytes_per_s = 0
        view = await asyncio.wait_for(pulls.jobs.begin(name, is_insecure=True).ended(), 20)

    assert states == {JobState.CANCELLED}
    assert view.state == "done"


async def test_an_unknown_id_is_told_at_the_call(bare_engine: BareEngine) -> None:
    async with pulls_of(bare_engine) as pulls:
        with pytest.raises(PullNotFound):
            await pulls.jobs.cancel("nope")


async def test_a_late_watcher_of_an_ended_pull_gets_its_last_line(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await job.ended()
        again = await pulls.jobs.cancel(job.id)
        lines = await lines_of(pulls, job)

    assert lines == [{"status": "success"}]
    assert again.state is JobState.DONE
