"""Guards CONTRACT §4 verify and repair on the real engine: exactly what is broken is named and fetched anew."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.checks.findings import BEING_PULLED, NO_LONGER_OFFERED, NO_OFFER
from arasul_supervisor.ollama.checks.jobs import CheckJobs
from arasul_supervisor.ollama.checks.repairing import Repairing
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.pulls.journal import PullJournal
from arasul_supervisor.ollama.residency import Residency
from arasul_supervisor.supervision.open_files import open_files
from tests.engine.registry_looks import looks
from tests.engine.store import blob_path, digest_of, install_model, manifest_path
from tests.engine.tiny_gguf import OTHER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from arasul_supervisor.ollama.job_view import JobView
    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry as FakeRegistry
    from tests.engine.store import ModelFiles

TENSORS = 200_000  # a place in the model file at which only weights are


class Silence:
    """Whoever logs is not heard."""

    def debug(self, event: str, **fields: object) -> None: ...

    info = warning = error = debug


@dataclass(frozen=True, slots=True)
class Room:
    client: OllamaClient
    pulls: PullJobs
    residency: Residency
    checks: CheckJobs

    async def pull(self, name: str) -> None:
        view = await self.pulls.begin(name, is_insecure=True).ended()
        assert view.state is JobState.DONE, view.error

    async def verify(self, name: str | None = None) -> JobView:
        return await asyncio.wait_for((await self.checks.begin_verify(name)).ended(), 30)

    async def repair(self, name: str | None = None) -> JobView:
        return await asyncio.wait_for((await self.checks.begin_repair(name)).ended(), 60)


@asynccontextmanager
async def busy(engine: BareEngine, name: str) -> AsyncIterator[None]:
    """A client that reads an answer of half a minute and more, from its first token on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
    body = json.dumps({"model": name, "prompt": "a", "options": {"num_predict": 100_000}})
    writer.write(f"POST /api/generate HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    try:
        await asyncio.wait_for(reader.readuntil(b'"done":false'), 30)
        yield
    finally:
        writer.close()


@asynccontextmanager
async def room_of(
    engine: BareEngine, store: Path, *, unload_s: float = 10, aliases: Mapping[str, str] | None = None
) -> AsyncIterator[Room]:
    clock = SystemClock()
    client, reader, registry = (
        OllamaClient(f"http://127.0.0.1:{engine.port}", clock),
        StoreReader(store),
        looks(Silence()),
    )
    catalogue, known = Catalogue(client, clock), Aliases(aliases or {})

    async def end_runners() -> int:
        raise AssertionError("nothing is ended by force")

    async def ready() -> None:
        """It is."""

    residency = Residency(client, clock, end_runners=end_runners, catalogue=catalogue, keep_alive_s=-1)
    pulls = PullJobs(
        client,
        catalogue,
        registry=registry,
        store=reader,
        open_files=lambda folder: open_files(engine.pid, folder),
        journal=PullJournal(store.parent / "pulls.json", Silence()),
        aliases=known,
        clock=clock,
        wait_ready=ready,
        concurrency=2,
        after_change=catalogue.invalidate,
    )
    repairing = Repairing(
        reader, pulls=pulls, residency=residency, registry=registry, aliases=known, unload_s=unload_s
    )
    checks = CheckJobs(reader, repairing, clock=clock)
    try:
        yield Room(client, pulls, residency, checks)
    finally:
        for part in (checks, pulls, residency, catalogue, registry, client):
            await part.close()
        reader.close()


def flip(store: Path, digest: str) -> None:
    """Change one byte of a blob."""
    with blob_path(store, digest).open("r+b") as blob:
        blob.seek(TENSORS)
        byte = blob.read(1)
        blob.seek(TENSORS)
        blob.write(bytes([byte[0] ^ 0xFF]))


def holds(store: Path, digest: str) -> bool:
    """True when the blob is what its name says."""
    return digest_of(blob_path(store, digest).read_bytes()) == digest


def weights_of(files: ModelFiles) -> str:
    return digest_of(files(OTHER).read_bytes())


async def generated(engine: BareEngine, name: str) -> int:
    """Status of a short answer of the model."""
    body = {"model": name, "prompt": "a", "stream": False, "options": {"num_predict": 3}}
    return (await asyncio.to_thread(engine.request, "POST", "/api/generate", body)).status


async def test_verify_names_exactly_the_model_whose_blob_was_changed(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        before = await room.verify()
        flip(tiny_model_store, weights)
        after = await room.verify()

    assert (before.state, before.broken) == (JobState.DONE, ())
    assert after.state is JobState.DONE
    assert after.broken is not None
    assert [(broken.name, broken.digests) for broken in after.broken] == [(name, (weights,))]


async def test_repair_fetches_exactly_the_broken_blob_and_the_model_answers_again(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        first_answer = await generated(bare_engine, name)  # Ollama trusts what it has, and keeps it loaded
        noted = list((tiny_model_store / "metadata").iterdir())
        registry.served.clear()
        view = await room.repair(name)
        loaded = await room.residency.loaded(timeout_s=5)
        answer = await generated(bare_engine, name)

    fetched = {entry.path.rpartition("/")[2] for entry in registry.ranges()}
    assert (view.state, view.broken, view.error) == (JobState.DONE, (), None)
    assert fetched == {weights}
    assert holds(tiny_model_store, weights)
    assert (first_answer, loaded, answer) == (200, (), 200)
    assert noted
    assert view.total == view.completed
    assert view.layers == 3  # the two of the model, then only the one that came anew


async def test_one_pull_mends_a_blob_for_all_that_share_it(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        await room.client.copy(name, "short", timeout_s=5)
        flip(tiny_model_store, weights)
        verified = await room.verify()
        registry.served.clear()
        repaired = await room.repair("short")
        answer = await generated(bare_engine, "short")

    assert verified.broken is not None
    assert {broken.name for broken in verified.broken} == {name, "short:latest"}
    assert (repaired.state, repaired.broken) == (JobState.DONE, ())
    assert len(registry.ranges()) == 1
    assert answer == 200


async def test_a_model_that_was_pulled_by_an_alias_is_fetched_by_its_real_tag(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    real, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store, aliases={"mine:best": real}) as room:
        await room.pull("mine:best")
        flip(tiny_model_store, weights)
        view = await room.repair("mine:best")

    assert (view.state, view.broken) == (JobState.DONE, ())
    assert holds(tiny_model_store, weights)


async def test_a_model_that_was_made_here_is_not_repaired_and_left_as_it_is(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    made, other = registry.name("made"), registry.put("other", model_files(OTHER))
    weights = install_model(tiny_model_store, made, model_files())
    flip(tiny_model_store, weights)
    broken_bytes = blob_path(tiny_model_store, weights).read_bytes()
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(other)
        flip(tiny_model_store, weights_of(model_files))
        await room.client.delete("tiny", timeout_s=5)  # has the same weights, and a name that the world knows
        view = await room.repair()

    assert view.state is JobState.FAILED
    assert view.broken is not None
    assert [broken.name for broken in view.broken] == [made]
    assert NO_OFFER in view.broken[0].reason
    assert view.error is not None and made in view.error
    assert blob_path(tiny_model_store, weights).read_bytes() == broken_bytes
    assert holds(tiny_model_store, weights_of(model_files))


async def test_a_model_that_is_newer_in_its_registry_is_not_repaired(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        registry.put("other", model_files())
        view = await room.repair(name)

    assert view.broken is not None and NO_LONGER_OFFERED in view.broken[0].reason
    assert blob_path(tiny_model_store, weights).exists()


async def test_a_missing_blob_is_fetched(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        blob_path(tiny_model_store, weights).unlink()
        verified = await room.verify(name)
        repaired = await room.repair(name)

    assert verified.broken is not None and "missing" in verified.broken[0].reason
    assert repaired.state is JobState.DONE
    assert holds(tiny_model_store, weights)


async def test_a_model_whose_manifest_was_cut_is_named_and_comes_back(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        manifest_path(tiny_model_store, name).write_bytes(b'{"schemaVers')
        flip(tiny_model_store, weights)  # which nothing can tell before the manifest is back
        verified = await room.verify()
        repaired = await room.repair()
        answer = await generated(bare_engine, name)

    assert verified.broken is not None
    assert [broken.name for broken in verified.broken] == [name]
    assert (repaired.state, repaired.broken) == (JobState.DONE, ())
    assert holds(tiny_model_store, weights)
    assert answer == 200


async def test_a_model_that_is_being_pulled_is_left_to_its_pull(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        registry.switches.silent_on = frozenset({"manifest"})
        pull = room.pulls.begin(name, is_insecure=True)
        view = await room.repair(name)
        await room.pulls.cancel(pull.id)

    assert view.state is JobState.FAILED
    assert view.broken is not None and BEING_PULLED in view.broken[0].reason
    assert blob_path(tiny_model_store, weights).exists()


async def test_a_blob_whose_registry_fails_is_told_with_the_reason_of_the_pull(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        registry.switches.sends_location = False  # a registry that Ollama cannot fetch blobs from
        view = await room.repair(name)

    assert view.state is JobState.FAILED
    assert view.broken is not None and "Location" in view.broken[0].reason


async def test_a_model_that_answers_a_request_keeps_its_blob(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store, unload_s=0.3) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        async with busy(bare_engine, name):
            view = await room.repair(name)

    assert view.state is JobState.FAILED
    assert view.broken is not None and "is still answering" in view.broken[0].reason
    assert blob_path(tiny_model_store, weights).exists()


async def test_a_repair_that_is_cancelled_leaves_its_pull_to_the_pulls(
    bare_engine: BareEngine, registry: FakeRegistry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name, weights = registry.put("other", model_files(OTHER)), weights_of(model_files)
    async with room_of(bare_engine, tiny_model_store) as room:
        await room.pull(name)
        flip(tiny_model_store, weights)
        registry.switches.bytes_per_s = 200_000
        job = await room.checks.begin_repair(name)
        deadline = time.monotonic() + 20
        while room.pulls.pulling(name) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await room.checks.cancel(job.id)
        pull = room.pulls.pulling(name)
        registry.switches.bytes_per_s = 0
        assert pull is not None
        pulled = await asyncio.wait_for(pull.ended(), 20)

    assert (job.state, pulled.state) == (JobState.CANCELLED, JobState.DONE)
    assert holds(tiny_model_store, weights)
