"""Guards the ways in which a pull can fail, on the real engine: each is met by what helps, and told in a sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.errors import ModelNotFound, RegistryError
from arasul_supervisor.ollama.pull_errors import DigestMismatch
from arasul_supervisor.ollama.pulls.retry import RetryPolicy
from arasul_supervisor.ollama.pulls.stall import PullLimits
from tests.api.raw import eventually
from tests.engine.pull_ground import BLOB, QUICK, SLOWLY, empty_notes, first_bytes, lines_of, pulls_of
from tests.engine.store import blob_path, digest_of

if TYPE_CHECKING:
    from arasul_supervisor.ollama.pulls.job import PullJob
    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry


async def test_what_there_is_to_fetch_is_known_before_the_first_byte(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_layers("new", [BLOB, b"licence"])
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        view = job.view()

    assert (view.layer, view.layer_number, view.layers) == (digest_of(BLOB), 1, 3)
    assert view.total is not None
    assert view.total > len(BLOB) + len(b"licence")  # and the config
    assert registry.looks() == 1


async def test_a_line_says_how_far_the_whole_pull_is_beside_the_layer(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_layers("new", [BLOB, b"licence"])
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        *steps, last = await lines_of(pulls, job)

    beside: list[Any] = [step["job"] for step in steps if step.get("digest") == digest_of(BLOB)]
    assert last == {"status": "success"}
    assert {(job["id"], job["attempt"], job["layer"], job["layers"]) for job in beside} == {(job.id, 1, 1, 3)}
    assert {job["total"] for job in beside} == {job.view().total}


async def test_wrong_bytes_are_given_up_after_three_attempts(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.flip_byte_at = 1000
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await asyncio.wait_for(job.ended(), 30)

    assert isinstance(job.failure, DigestMismatch)
    assert job.attempts == 3


async def test_a_note_that_was_left_empty_is_mended_and_the_pull_goes_on(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        await pulls.jobs.cancel(job.id)
        await asyncio.sleep(0.3)  # Ollama writes its notes
        await asyncio.to_thread(empty_notes, bare_engine.store)
        registry.switches.bytes_per_s = 0
        again = pulls.jobs.begin(name, is_insecure=True)
        lines = await asyncio.wait_for(lines_of(pulls, again), 30)

    assert any("EOF" in str(line.get("reason")) for line in lines)
    assert (again.view().state, again.attempts) == ("done", 2)


async def attempts_reach(job: PullJob, n: int) -> None:
    while job.attempts < n:  # noqa: ASYNC110 - a figure that is polled by callers too
        await asyncio.sleep(0.05)


async def test_a_registry_that_asks_to_wait_is_not_asked_sooner(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.manifest_status, registry.switches.retry_after = 429, "2"
    async with pulls_of(bare_engine) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await eventually(lambda: job.view().state == "retrying")
        waiting = job.view()
        await asyncio.sleep(0.5)
        n_asked = (registry.looks(), registry.requests("manifest"))
        registry.switches.manifest_status = 200
        last = await asyncio.wait_for(job.ended(), 20)

    assert n_asked == (1, 0)
    assert waiting.error is not None and "asks to wait 2 s" in waiting.error
    assert (last.state, last.attempts) == ("done", 2)


async def test_an_unknown_model_is_told_with_the_names_that_are_near(
    bare_engine: BareEngine, registry: Registry
) -> None:
    near = registry.put_bytes("remarkable", b"")
    async with pulls_of(bare_engine) as pulls:
        await pulls.jobs.begin(near, is_insecure=True).ended()
        job = pulls.jobs.begin(registry.name("remarkible"), is_insecure=True)
        await asyncio.wait_for(job.ended(), 20)

    assert isinstance(job.failure, ModelNotFound)
    assert f"Did you mean '{near}'?" in job.failure.sentence


async def test_a_registry_that_is_away_for_longer_than_a_few_attempts_ends_no_pull_that_has_begun(
    bare_engine: BareEngine, registry: Registry
) -> None:
    name = registry.put_bytes("new", BLOB)
    registry.switches.bytes_per_s = SLOWLY
    limits = PullLimits(retry=RetryPolicy(base_s=0.05, cap_s=0.1), stall_s=1.0, after_pause_s=0.1)
    async with pulls_of(bare_engine, limits=limits) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await first_bytes(pulls, job)
        await asyncio.to_thread(registry.stop)
        await asyncio.wait_for(attempts_reach(job, 8), 20)
        await asyncio.to_thread(registry.come_back)
        view = await asyncio.wait_for(job.ended(), 40)

    assert view.state == "done"


async def test_two_aliases_of_one_model_end_as_two_names_of_one_blob(
    bare_engine: BareEngine, registry: Registry
) -> None:
    real = registry.put_bytes("real", BLOB)
    registry.switches.bytes_per_s = 3 * SLOWLY
    async with pulls_of(bare_engine, aliases={"one:q8": real, "two:q8": real}) as pulls:
        jobs = [pulls.jobs.begin(name, is_insecure=True) for name in ("one:q8", "two:q8")]
        views = [await asyncio.wait_for(job.ended(), 30) for job in jobs]
        names = sorted(model.name for model in await pulls.client.tags(timeout_s=5))
        for name in ("one:q8", "two:q8"):
            await pulls.client.delete(name, timeout_s=5)
        is_freed = not await asyncio.to_thread(blob_path(bare_engine.store, digest_of(BLOB)).exists)

    assert [view.state for view in views] == ["done", "done"]
    assert names == ["one:q8", "tiny:latest", "two:q8"]
    assert is_freed


@pytest.mark.parametrize(("switch", "value"), [("sends_location", False), ("manifest_status", 401)])
async def test_what_the_registry_will_never_give_is_told_at_once(
    bare_engine: BareEngine, registry: Registry, switch: str, value: object
) -> None:
    name = registry.put_bytes("new", BLOB)
    setattr(registry.switches, switch, value)
    async with pulls_of(bare_engine, limits=QUICK) as pulls:
        job = pulls.jobs.begin(name, is_insecure=True)
        await asyncio.wait_for(job.ended(), 20)

    assert isinstance(job.failure, RegistryError)
    assert job.attempts == 1, job.failure.sentence
