"""Guards CONTRACT §4 verify and repair as jobs: begun once, queued, cancelled at once, without an engine to ask."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.api.checks import Checks
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.routes import Call
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import BadInput, EngineDown, ModelNotFound, PullNotFound
from arasul_supervisor.model_store.hashing import hash_blob, remove_damaged_blob
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.checks.jobs import MAX_ENDED_JOBS, CheckJobs
from arasul_supervisor.ollama.checks.run import CheckLimits
from arasul_supervisor.ollama.job_view import JobState
from tests.engine.store import blob_path, digest_of, layers_of, manifest_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arasul_supervisor.ollama.checks.job import CheckJob

ENDLESS_BYTES = 2**40  # a file without content, read for ten minutes and more
CONTENT = bytes(range(256)) * 20_000  # 5 MB, no whole number of chunks
NO_REPAIR: Any = None  # Any: verify never looks at it


@asynccontextmanager
async def checks_of(store: Path, *, stall_s: float = 60) -> AsyncIterator[CheckJobs]:
    clock, reader = SystemClock(), StoreReader(store)
    jobs = CheckJobs(reader, NO_REPAIR, clock=clock, limits=CheckLimits(stall_s=stall_s, tick_s=0.02))
    try:
        yield jobs
    finally:
        await jobs.close()
        reader.close()


def install(store: Path, name: str, content: bytes = CONTENT) -> str:
    """A model of these bytes; the digest of its blob."""
    layers = layers_of(content)
    for digest, blob in layers.blobs.items():
        path = blob_path(store, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    _write_manifest(store, name, layers.manifest)
    return digest_of(content)


def install_endless(store: Path, name: str = "endless") -> str:
    """A model whose blob takes for ever to read."""
    digest = install_layer(store, name, ENDLESS_BYTES)
    blob_path(store, digest).touch()
    os.truncate(blob_path(store, digest), ENDLESS_BYTES)
    return digest


def install_layer(store: Path, name: str, size_bytes: int) -> str:
    """A model of one layer, without its blob."""
    digest = digest_of(name.encode())
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": size_bytes}]
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    _write_manifest(store, name, json.dumps({"schemaVersion": 2, "layers": layers}).encode())
    return digest


def _write_manifest(store: Path, name: str, content: bytes) -> None:
    path = manifest_path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def some_bytes(job: CheckJob) -> None:
    """Until the job has read something."""
    deadline = time.monotonic() + 10
    while not job.view().completed:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_the_digest_of_a_blob_is_that_of_its_content(tmp_path: Path) -> None:
    digest = install(tmp_path, "new")
    read: list[int] = []

    found = hash_blob(tmp_path, digest, on_bytes=read.append, is_wanted=lambda: True)

    assert found == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" == digest
    assert sum(read) == len(CONTENT)


def test_a_blob_that_is_no_longer_wanted_is_read_no_further(tmp_path: Path) -> None:
    digest = install_endless(tmp_path)
    read: list[int] = []

    found = hash_blob(tmp_path, digest, on_bytes=read.append, is_wanted=lambda: len(read) < 3)

    assert (found, len(read)) == (None, 3)


def test_with_a_damaged_blob_goes_what_ollama_noted_of_it(tmp_path: Path) -> None:
    digest = install(tmp_path, "new")
    note = tmp_path / "metadata" / f"{blob_path(tmp_path, digest).name}.json"
    note.parent.mkdir()
    note.write_text("{}")

    remove_damaged_blob(tmp_path, digest)

    assert not blob_path(tmp_path, digest).exists() and not note.exists()


async def test_a_store_in_which_all_is_well_is_verified_without_a_finding(tmp_path: Path) -> None:
    install(tmp_path, "one")
    install(tmp_path, "two")
    async with checks_of(tmp_path) as checks:
        view = await (await checks.begin_verify(None)).ended()

    assert (view.kind, view.model, view.state, view.broken) == ("verify", None, JobState.DONE, ())
    assert view.total is not None and view.total == view.completed >= len(CONTENT)
    assert view.total < 2 * len(CONTENT)  # what both have is read once
    assert view.started_at is not None and view.finished_at is not None


async def test_a_blob_that_is_what_its_digest_says_is_whole_whatever_size_a_manifest_gives_it(
    tmp_path: Path,
) -> None:
    digest = install(tmp_path, "right", CONTENT)
    right = manifest_path(tmp_path, "right")
    text = (await asyncio.to_thread(right.read_text)).replace(f'"size": {len(CONTENT)}', '"size": 10')
    lying = manifest_path(tmp_path, "lying")
    await asyncio.to_thread(lying.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(lying.write_text, text)
    async with checks_of(tmp_path) as checks:
        broken = (await (await checks.begin_verify(None)).ended()).broken

    assert broken is not None
    assert [model.name for model in broken] == ["lying:latest"]
    assert "and is what its digest says" in broken[0].reason
    assert await asyncio.to_thread(blob_path(tmp_path, digest).exists)


async def test_a_missing_a_cut_and_a_changed_blob_are_told_apart(tmp_path: Path) -> None:
    missing, cut, changed = (install(tmp_path, name, CONTENT + name.encode()) for name in ("m", "c", "x"))
    blob_path(tmp_path, missing).unlink()
    os.truncate(blob_path(tmp_path, cut), 1000)
    blob_path(tmp_path, changed).write_bytes(CONTENT + b"y")
    install(tmp_path, "whole")
    async with checks_of(tmp_path) as checks:
        view = await (await checks.begin_verify(None)).ended()

    assert view.broken is not None
    reasons = {broken.name: broken.reason for broken in view.broken}
    assert reasons.keys() == {"m:latest", "c:latest", "x:latest"}
    assert "missing" in reasons["m:latest"]
    assert "1000 bytes instead of" in reasons["c:latest"]
    assert "another digest" in reasons["x:latest"]
    assert view.state is JobState.DONE


async def test_the_progress_of_a_large_blob_is_told(tmp_path: Path) -> None:
    digest = install_endless(tmp_path)
    async with checks_of(tmp_path) as checks:
        job = await checks.begin_verify("endless")
        await some_bytes(job)
        await asyncio.sleep(0.6)
        view = job.view()

    assert (view.state, view.layer, view.layer_number, view.layers) == (JobState.RUNNING, digest, 1, 1)
    assert view.status is not None and view.status.startswith("verifying sha256-")
    assert view.total == ENDLESS_BYTES and 0 < view.completed < ENDLESS_BYTES
    assert view.speed_bytes_per_s is not None and view.speed_bytes_per_s > 1024 * 1024
    assert view.eta_s is not None and view.eta_s > 1


async def test_a_cancel_in_the_middle_of_a_blob_ends_the_reading_at_once(tmp_path: Path) -> None:
    install_endless(tmp_path)
    async with checks_of(tmp_path) as checks:
        job = await checks.begin_verify(None)
        await some_bytes(job)
        began = time.monotonic()
        await checks.cancel(job.id)
        took_s = time.monotonic() - began
        view = await job.ended()

    assert view.state is JobState.CANCELLED
    assert took_s < 1  # and the fixtures look that no thread is left


async def test_the_end_of_the_daemon_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    install_endless(tmp_path)
    async with checks_of(tmp_path) as checks:
        running, waiting = await checks.begin_verify(None), await checks.begin_verify("endless")
        await some_bytes(running)
        began = time.monotonic()
        await checks.close()
        took_s = time.monotonic() - began
        with pytest.raises(EngineDown):
            await checks.begin_verify(None)

    assert {running.state, waiting.state} == {JobState.CANCELLED}
    assert took_s < 1


async def test_the_same_wish_twice_is_one_job(tmp_path: Path) -> None:
    install_endless(tmp_path)
    async with checks_of(tmp_path) as checks:
        jobs = await asyncio.gather(*(checks.begin_verify(name) for name in ("endless", "ENDLESS:latest")))
        other = await checks.begin_repair("endless")

    assert jobs[0] is jobs[1]
    assert other is not jobs[0]


async def test_one_runs_and_the_others_wait_in_their_order(tmp_path: Path) -> None:
    install_endless(tmp_path)
    install(tmp_path, "one")
    async with checks_of(tmp_path) as checks:
        names = ("endless", "one", None)
        jobs = [await checks.begin_verify(name) for name in names]
        await some_bytes(jobs[0])
        states = [job.state for job in jobs]
        await checks.cancel(jobs[2].id)
        await checks.cancel(jobs[0].id)
        last = await jobs[1].ended()
        listed = checks.jobs()

    assert states == [JobState.RUNNING, JobState.QUEUED, JobState.QUEUED]
    assert (last.state, jobs[2].state) == (JobState.DONE, JobState.CANCELLED)
    assert list(listed) == jobs[::-1]


async def test_an_unknown_model_is_told_at_once(tmp_path: Path) -> None:
    install(tmp_path, "one")
    async with checks_of(tmp_path) as checks:
        with pytest.raises(ModelNotFound):
            await checks.begin_verify("two")

        assert checks.jobs() == ()


async def test_whoever_asks_gets_the_job_and_not_its_end(tmp_path: Path) -> None:
    install_endless(tmp_path)
    async with checks_of(tmp_path) as checks:
        api = Checks(checks)
        verify = await api.verify(Call({}, body=NamedModel(name="endless")))
        repair = await api.repair(Call({}, body=NamedModel()))
        jobs = checks.jobs()[::-1]

    assert (verify.status, repair.status) == (202, 202)
    assert [verify.content.id, repair.content.id] == [job.id for job in jobs]
    assert [(job.kind, job.model) for job in jobs] == [("verify", "endless"), ("repair", None)]


async def test_a_name_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    async with checks_of(tmp_path) as checks:
        with pytest.raises(BadInput):
            await Checks(checks).verify(Call({}, body=NamedModel(model="a b")))


async def test_a_disk_that_brings_nothing_ends_the_job_and_not_the_daemon(tmp_path: Path) -> None:
    pipe = blob_path(tmp_path, install_layer(tmp_path, "stuck", 0))
    os.mkfifo(pipe)  # opening it hangs, as a file on a network that is gone does
    install(tmp_path, "well")
    async with checks_of(tmp_path, stall_s=0.2) as checks:
        stuck = await (await checks.begin_verify("stuck")).ended()
        well = await (await checks.begin_verify("well")).ended()
    os.close(os.open(pipe, os.O_WRONLY))  # lets the thread end

    assert stuck.state is JobState.FAILED
    assert stuck.error is not None and "brought nothing for 0.2 s" in stuck.error
    assert well.state is JobState.DONE


async def test_of_the_ended_ones_the_last_twenty_are_remembered(tmp_path: Path) -> None:
    install(tmp_path, "one", b"x")
    async with checks_of(tmp_path) as checks:
        jobs = []
        for _ in range(MAX_ENDED_JOBS + 1):
            jobs.append(await checks.begin_verify(None))
            await jobs[-1].ended()
        await asyncio.sleep(0)

        assert list(checks.jobs()) == jobs[:0:-1]
        with pytest.raises(PullNotFound):
            checks.job(jobs[0].id)
