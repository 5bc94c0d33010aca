"""Guards CONTRACT §4 on the real engine: the catalogue is true, a load is seen, an unload is proved."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown, EngineRefused, EngineSilent, ModelNotFound
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.residency import Residency
from tests.engine.store import install_model
from tests.engine.tiny_gguf import EMBEDDING, OTHER, UNKNOWN_ARCHITECTURE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.engine.real import BareEngine
    from tests.engine.store import ModelFiles

FOR_EVER = -1


@dataclass(frozen=True, slots=True)
class Room:
    client: OllamaClient
    catalogue: Catalogue
    residency: Residency


@asynccontextmanager
async def room_of(engine: BareEngine, *, keep_alive_s: int = FOR_EVER) -> AsyncIterator[Room]:
    clock = SystemClock()
    client = OllamaClient(f"http://127.0.0.1:{engine.port}", clock)
    catalogue = Catalogue(client, clock)

    async def end_runners() -> int:
        return await asyncio.to_thread(kill_runners_of, engine)

    residency = Residency(
        client, clock, end_runners=end_runners, catalogue=catalogue, keep_alive_s=keep_alive_s
    )
    try:
        yield Room(client, catalogue, residency)
    finally:
        await residency.close()
        await catalogue.close()
        await client.close()


def runners_of(engine: BareEngine) -> list[int]:
    """The engine's children that hold a model."""
    children = " ".join(read(task / "children") for task in tasks_of(engine.pid)).split()
    return [int(pid) for pid in children if "--model" in read(Path(f"/proc/{pid}/cmdline"))]


def tasks_of(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def read(path: Path) -> str:
    """The file's text; "" when its process has just gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


async def all_runners_end(engine: BareEngine) -> bool:
    """A runner ends some milliseconds after /api/ps has dropped its model."""
    deadline = time.monotonic() + 5
    while runners_of(engine) and time.monotonic() < deadline:  # noqa: ASYNC110 - /proc sends no events
        await asyncio.sleep(0.005)
    return not runners_of(engine)


def kill_runners_of(engine: BareEngine) -> int:
    runners = runners_of(engine)
    for pid in runners:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(runners)


async def freeze(pid: int) -> None:
    """SIGSTOP, and the wait until every thread stands."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while not all(") T " in read(task / "stat") for task in tasks_of(pid)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@asynccontextmanager
async def busy(engine: BareEngine, model: str) -> AsyncIterator[None]:
    """A client that reads an answer of 20,000 tokens (half a minute and more), from its first token on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
    body = f'{{"model":"{model}","prompt":"a","options":{{"num_predict":100000}}}}'.encode()
    writer.write(
        f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    try:
        await asyncio.wait_for(reader.readuntil(b'"done":false'), 60)
        yield
    finally:
        writer.close()


async def test_the_installed_models_are_listed_with_what_ollama_knows(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        view = await room.catalogue.models(timeout_s=3)

    model = view.models[0]
    assert (model.name, model.format, model.family, model.parameter_size) == (
        "tiny:latest",
        "gguf",
        "llama",
        "111K",
    )
    assert model.size_bytes > 450_000
    assert model.digest.startswith("sha256:")


async def test_a_change_made_from_outside_is_seen_after_the_time_kept(
    bare_engine: BareEngine, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    async with room_of(bare_engine) as room:
        brief = Catalogue(room.client, SystemClock(), keep_s=0.05)
        before = await brief.models(timeout_s=3)
        await asyncio.to_thread(install_model, tiny_model_store, "other", model_files(OTHER))
        await asyncio.sleep(0.06)
        after = await brief.models(timeout_s=3)
        await brief.close()

    assert [model.name for model in before.models] == ["tiny:latest"]
    assert {model.name for model in after.models} == {"tiny:latest", "other:latest"}


async def test_a_load_ends_when_the_model_is_seen_loaded_for_ever(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        model = await room.residency.load("tiny", options={})
        loaded = await room.residency.loaded(timeout_s=3)

    assert model.name == "tiny:latest"
    # Ollama writes the instant anew when the load's own request ends, which may be after the first look
    assert (model.expires_at[:2], loaded[0].expires_at[:2]) == ("23", "23")
    assert [(one.name, one.digest) for one in loaded] == [(model.name, model.digest)]


async def test_a_load_with_keep_alive_zero_is_seen_and_not_an_unload(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine, keep_alive_s=0) as room:
        model = await room.residency.load("tiny", options={})

    assert model.name == "tiny:latest"


async def test_a_model_for_embeddings_is_loaded(
    bare_engine: BareEngine, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    await asyncio.to_thread(install_model, tiny_model_store, "embed", model_files(EMBEDDING))
    async with room_of(bare_engine) as room:
        model = await room.residency.load("embed", options={})

    assert model.name == "embed:latest"


async def test_a_second_name_of_a_loaded_model_is_seen_under_the_first(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        await room.client.copy("tiny", "second", timeout_s=5)
        await room.residency.load("tiny", options={})
        model = await room.residency.load("second", options={})

    assert model.name == "tiny:latest"


async def test_a_load_that_fails_is_told_with_ollamas_reason(
    bare_engine: BareEngine, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    await asyncio.to_thread(install_model, tiny_model_store, "bad", model_files(UNKNOWN_ARCHITECTURE))
    async with room_of(bare_engine) as room:
        with pytest.raises(EngineRefused, match="nosucharch"):
            await room.residency.load("bad", options={})


async def test_an_unknown_model_is_not_found_whatever_is_asked(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        with pytest.raises(ModelNotFound):
            await room.residency.load("nope", options={})
        with pytest.raises(ModelNotFound):
            await room.residency.unload("nope", bound_s=3)
        with pytest.raises(ModelNotFound):
            await room.client.delete("nope", timeout_s=3)
        with pytest.raises(ModelNotFound):
            await room.client.show("nope", timeout_s=3)


async def test_an_unload_of_all_is_proved_and_says_what_was_freed(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        await room.residency.load("tiny", options={})
        outcome = await room.residency.unload_all(bound_s=4.5, is_forced=False)
        again = await room.residency.unload_all(bound_s=4.5, is_forced=False)
        is_all_gone = await all_runners_end(bare_engine)

    assert [model.name for model in outcome.unloaded] == ["tiny:latest"]
    assert (outcome.still_loaded, outcome.was_clear) == ((), False)
    assert outcome.freed_bytes > 450_000
    assert again.was_clear
    assert is_all_gone


async def test_a_model_that_answers_a_request_stays_and_its_client_notices_nothing(
    bare_engine: BareEngine,
) -> None:
    async with room_of(bare_engine) as room, busy(bare_engine, "tiny"):
        outcome = await room.residency.unload_all(bound_s=1.0, is_forced=False)
        n_runners = len(runners_of(bare_engine))

    assert [model.name for model in outcome.still_loaded] == ["tiny:latest"]
    assert (outcome.unloaded, outcome.freed_bytes) == ((), 0)
    assert n_runners == 1


async def test_by_force_a_busy_model_is_ended(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room, busy(bare_engine, "tiny"):
        outcome = await room.residency.unload_all(bound_s=4.5, is_forced=True)
        is_all_gone = await all_runners_end(bare_engine)

    assert [model.name for model in outcome.unloaded] == ["tiny:latest"]
    assert outcome.still_loaded == ()
    assert is_all_gone


async def test_by_force_a_frozen_runner_is_ended(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room, busy(bare_engine, "tiny"):
        await freeze(runners_of(bare_engine)[0])
        outcome = await room.residency.unload_all(bound_s=4.5, is_forced=True)

    assert outcome.still_loaded == ()


async def test_a_model_deleted_while_loaded_is_told_as_loaded_until_its_runner_is_ended(
    bare_engine: BareEngine,
) -> None:
    async with room_of(bare_engine) as room:
        await room.residency.load("tiny", options={})
        await room.client.delete("tiny", timeout_s=5)
        asked = await room.residency.unload_all(bound_s=0.5, is_forced=False)
        forced = await room.residency.unload_all(bound_s=4.5, is_forced=True)
        is_all_gone = await all_runners_end(bare_engine)

    assert [model.name for model in asked.still_loaded] == ["tiny:latest"]
    assert [model.name for model in forced.unloaded] == ["tiny:latest"]
    assert is_all_gone


async def test_one_model_is_unloaded_by_either_of_its_names(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        await room.client.copy("tiny", "second", timeout_s=5)
        await room.catalogue.models(timeout_s=3)
        await room.residency.load("tiny", options={})
        gone = await room.residency.unload("second", bound_s=3)
        loaded = await room.residency.loaded(timeout_s=3)

    assert gone
    assert loaded == ()


async def test_a_frozen_engine_is_silent_and_never_clear(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        await freeze(bare_engine.pid)
        began = time.monotonic()
        try:
            with pytest.raises(EngineSilent):
                await room.residency.unload_all(bound_s=1.0, is_forced=False)
            with pytest.raises(EngineSilent):
                await room.catalogue.models(timeout_s=0.5)
        finally:
            os.kill(bare_engine.pid, signal.SIGCONT)

    assert time.monotonic() - began < 4.0


async def test_an_engine_that_dies_in_a_load_is_told_at_once(bare_engine: BareEngine) -> None:
    async with room_of(bare_engine) as room:
        load = asyncio.create_task(room.residency.load("tiny", options={}))
        deadline = time.monotonic() + 20
        while not runners_of(bare_engine) and not load.done():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        os.kill(bare_engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDown):
            await asyncio.wait_for(load, 10)
