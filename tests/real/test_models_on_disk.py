"""Guards CONTRACT §4 on the real engine: what is on disk is told as it is, and what is deleted is gone and freed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from arasul_supervisor.model_store.listing import read_store
from arasul_supervisor.model_store.purging import purge
from arasul_supervisor.supervision.open_files import open_files
from arasul_supervisor.supervision.runners import runner_blobs
from tests.api.raw import ask, connection, eventually
from tests.api.stubs import UP, api_under_test
from tests.engine.store import (
    CONFIG_KIND,
    MANIFEST_KIND,
    blob_path,
    digest_of,
    install_model,
    layers_of,
    manifest_path,
)
from tests.engine.tiny_gguf import EMBEDDING, OTHER
from tests.real.test_ollama_room_models import busy, freeze, runners_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.api.raw import RawAnswer
    from tests.api.stubs import ApiUnderTest
    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles

Json = Any  # tests look into answers freely


@pytest_asyncio.fixture
async def api(bare_engine: BareEngine, tiny_model_store: Path) -> AsyncIterator[ApiUnderTest]:
    """The management port over the real engine and its store, which holds `tiny:latest`."""
    snapshot = replace(UP, pid=bare_engine.pid)
    async with api_under_test(bare_engine.port, store=tiny_model_store, snapshot=snapshot) as running:
        yield running


async def listed(api: ApiUnderTest) -> dict[str, Json]:
    """The models of `GET /api/models` by their names; asked anew."""
    api.catalogue.invalidate()
    return {model["name"]: model for model in (await ask(api.port, "GET", "/api/models")).json()["models"]}


async def broken(api: ApiUnderTest) -> dict[str, str]:
    """What is broken, with the reasons; asked anew."""
    api.catalogue.invalidate()
    found = (await ask(api.port, "GET", "/api/models")).json()["broken"]
    return {one["name"]: one["reason"] for one in found}


async def delete(api: ApiUnderTest, name: str) -> RawAnswer:
    return await ask(api.port, "DELETE", "/api/models/delete", json.dumps({"model": name}).encode())


async def copy(engine: BareEngine, source: str, destination: str) -> None:
    body = json.dumps({"source": source, "destination": destination}).encode()
    assert (await ask(engine.port, "POST", "/api/copy", body)).status == 200


async def load(engine: BareEngine, name: str) -> None:
    body = json.dumps({"model": name, "keep_alive": -1}).encode()
    assert (await ask(engine.port, "POST", "/api/generate", body)).status == 200


async def used_bytes(store: Path) -> int:
    """Bytes of all blobs."""
    return await asyncio.to_thread(lambda: sum(path.stat().st_size for path in (store / "blobs").iterdir()))


def install_config(store: Path, name: str, config: dict[str, object], *layers: tuple[str, bytes]) -> None:
    """A model of this configuration; each layer is its kind and its content."""
    content = json.dumps(config).encode()
    for blob in (content, *(content for _, content in layers)):
        blob_path(store, digest_of(blob)).write_bytes(blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_KIND,
        "config": {"mediaType": CONFIG_KIND, "digest": digest_of(content), "size": len(content)},
        "layers": [{"mediaType": kind, "digest": digest_of(blob), "size": len(blob)} for kind, blob in layers]
        or None,  # as Ollama writes a model that runs in the cloud
    }
    path = manifest_path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))


async def test_a_gguf_is_listed_with_what_it_can_and_what_it_takes(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    model = (await listed(api))["tiny:latest"]

    assert (model["format"], model["families"], model["capabilities"]) == ("gguf", ["llama"], ["completion"])
    assert (model["context_length"], model["remote_host"]) == (2048, None)
    assert model["disk_bytes"] == {"own": model["size"], "shared": 0}
    assert model["size"] == await used_bytes(tiny_model_store)


async def test_a_model_for_embeddings_is_told_as_one(
    api: ApiUnderTest, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    await asyncio.to_thread(install_model, tiny_model_store, "embed", model_files(EMBEDDING))

    assert (await listed(api))["embed:latest"]["capabilities"] == ["embedding"]


async def test_a_model_that_sees_is_told_by_its_families(api: ApiUnderTest, tiny_model_store: Path) -> None:
    config: dict[str, object] = {
        "model_format": "gguf",
        "model_family": "mllama",
        "model_families": ["mllama"],
    }
    kind = "application/vnd.ollama.image.model"
    await asyncio.to_thread(install_config, tiny_model_store, "sees", config, (kind, b"weights"))

    assert (await listed(api))["sees:latest"]["families"] == ["mllama"]


async def test_a_model_of_safetensors_is_listed_with_all_its_tensors(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    config: dict[str, object] = {"model_format": "safetensors", "model_family": "qwen3"}
    tensor = "application/vnd.ollama.image.tensor"
    layers = ((tensor, b"one"), (tensor, b"another"))
    await asyncio.to_thread(install_config, tiny_model_store, "tensors", config, *layers)

    model = (await listed(api))["tensors:latest"]
    assert model["format"] == "safetensors"
    assert model["disk_bytes"] == {"own": model["size"], "shared": 0}


async def test_a_model_in_the_cloud_says_where_it_runs_and_is_not_broken(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    config: dict[str, object] = {
        "model_format": "",
        "model_family": "gptoss",
        "remote_host": "https://ollama.com:443",
        "remote_model": "gpt-oss:20b",
        "context_length": 131072,
    }
    await asyncio.to_thread(install_config, tiny_model_store, "gpt-oss:20b-cloud", config)

    model = (await listed(api))["gpt-oss:20b-cloud"]
    assert (model["format"], model["remote_host"]) == (None, "https://ollama.com:443")
    assert (model["context_length"], model["disk_bytes"]["own"]) == (131072, model["size"])
    assert await broken(api) == {}


async def test_the_store_gives_a_model_the_digest_and_the_size_that_ollama_gives(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    models = await listed(api)
    found = await asyncio.to_thread(read_store, tiny_model_store)

    seen = {model.name: (model.digest, model.manifest.size_bytes) for model in found.models}
    assert seen == {name: (model["digest"], model["size"]) for name, model in models.items()}


async def test_two_names_of_a_model_share_every_byte(api: ApiUnderTest, bare_engine: BareEngine) -> None:
    await copy(bare_engine, "tiny", "second")

    models = await listed(api)
    size = models["tiny:latest"]["size"]
    assert [model["disk_bytes"] for model in models.values()] == [{"own": 0, "shared": size}] * 2


async def test_the_last_name_of_a_model_takes_its_bytes_along(
    api: ApiUnderTest, bare_engine: BareEngine, tiny_model_store: Path
) -> None:
    await copy(bare_engine, "tiny", "second")
    before = await used_bytes(tiny_model_store)
    first = (await delete(api, "tiny")).json()
    still_used = await used_bytes(tiny_model_store)
    last = (await delete(api, "second")).json()

    assert (first["freed_bytes"], still_used) == (0, before)
    assert "second:latest keeps the same weights" in first["message"]
    assert (last["freed_bytes"], await used_bytes(tiny_model_store)) == (before, 0)


async def test_a_loaded_model_has_no_runner_any_more_when_its_removal_is_answered(
    api: ApiUnderTest, bare_engine: BareEngine
) -> None:
    await load(bare_engine, "tiny")
    answer = await delete(api, "tiny")
    runners = runners_of(bare_engine)

    assert (answer.status, runners) == (200, [])


async def test_a_name_whose_other_name_is_busy_can_be_removed(
    api: ApiUnderTest, bare_engine: BareEngine
) -> None:
    await copy(bare_engine, "tiny", "second")
    async with busy(bare_engine, "tiny"):
        answer = await delete(api, "second")
        runners = runners_of(bare_engine)

    assert (answer.status, answer.json()["freed_bytes"], len(runners)) == (200, 0, 1)


async def test_a_model_that_answers_a_request_is_not_removed(
    api: ApiUnderTest, bare_engine: BareEngine
) -> None:
    async with busy(bare_engine, "tiny"):
        answer = await delete(api, "tiny")

    assert (answer.status, answer.json()["code"]) == (409, "model_busy")
    assert "still answering a request" in answer.json()["error"]
    assert "tiny:latest" in await listed(api)


async def test_a_model_that_a_request_loads_is_not_removed(
    api: ApiUnderTest, bare_engine: BareEngine
) -> None:
    async with loading(bare_engine, "tiny") as runner:
        answer = await delete(api, "tiny")
        os.kill(runner, signal.SIGCONT)

    assert (answer.status, answer.json()["code"]) == (409, "model_busy")
    assert "is being loaded by a request" in answer.json()["error"]
    assert "tiny:latest" in await listed(api)


@asynccontextmanager
async def loading(engine: BareEngine, model: str) -> AsyncIterator[int]:
    """A load whose runner stands still; its pid. The load ends with its client."""
    body = json.dumps({"model": model}).encode()
    async with connection(engine.port) as client:
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
        deadline = time.monotonic() + 20
        while not runners_of(engine):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        (runner,) = runners_of(engine)
        await freeze(runner)
        yield runner


async def test_an_unknown_model_is_404(api: ApiUnderTest) -> None:
    assert (await delete(api, "nope")).status == 404


@pytest.mark.parametrize("rest", [0.0, 0.95], ids=["empty", "half"])
async def test_a_model_whose_manifest_is_corrupt_is_named_and_can_be_removed(
    rest: float, api: ApiUnderTest, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    await asyncio.to_thread(install_model, tiny_model_store, "half", model_files(OTHER))
    file = manifest_path(tiny_model_store, "half")
    content = await asyncio.to_thread(file.read_bytes)
    await asyncio.to_thread(file.write_bytes, content[: int(len(content) * rest)])

    named = await broken(api)
    answer = await delete(api, "half")

    assert [*named] == ["half:latest"]
    assert (answer.status, await broken(api), [*await listed(api)]) == (200, {}, ["tiny:latest"])


async def test_the_removal_of_a_corrupt_model_frees_what_it_still_names_and_no_other_has(
    api: ApiUnderTest, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    before = await used_bytes(tiny_model_store)
    digest = await asyncio.to_thread(install_model, tiny_model_store, "half", model_files(OTHER))
    manifest = layers_of(await asyncio.to_thread(model_files(OTHER).read_bytes)).manifest
    await asyncio.to_thread(manifest_path(tiny_model_store, "half").write_bytes, manifest[:-5])

    answer = await delete(api, "half")

    assert answer.json()["freed_bytes"] > 450_000
    assert not await asyncio.to_thread(blob_path(tiny_model_store, digest).exists)
    assert await used_bytes(tiny_model_store) == before


async def test_a_model_without_its_weights_is_named_and_can_be_removed(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    (model,) = (await asyncio.to_thread(read_store, tiny_model_store)).models
    await asyncio.to_thread(blob_path(tiny_model_store, model.manifest.layers[0].digest).unlink)

    reason = (await broken(api))["tiny:latest"]
    answer = await delete(api, "tiny")

    assert "is missing" in reason
    assert (answer.status, await used_bytes(tiny_model_store)) == (200, 0)


async def test_a_model_that_ollama_hides_for_its_configuration_is_named_and_can_be_removed(
    api: ApiUnderTest, tiny_model_store: Path
) -> None:
    (model,) = (await asyncio.to_thread(read_store, tiny_model_store)).models
    await asyncio.to_thread(blob_path(tiny_model_store, model.manifest.config_digest or "").unlink)

    hidden = (await listed(api), [*await broken(api)])
    answer = await delete(api, "tiny")

    assert hidden == ({}, ["tiny:latest"])
    assert (answer.status, answer.json()["freed_bytes"]) == (200, model.manifest.layers[0].size_bytes)


async def test_runners_are_told_with_their_weights(bare_engine: BareEngine, tiny_model_store: Path) -> None:
    await load(bare_engine, "tiny")
    found = await asyncio.to_thread(runner_blobs, bare_engine.pid)

    (model,) = (await asyncio.to_thread(read_store, tiny_model_store)).models
    assert [*found.values()] == [model.manifest.layers[0].digest]
    assert [*found] == runners_of(bare_engine)


async def test_the_part_of_a_pull_that_ollama_has_open_is_not_purged(
    bare_engine: BareEngine, registry: Registry, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(OTHER))
    registry.switches.stall_after_bytes = 100_000
    digest = digest_of(await asyncio.to_thread(model_files(OTHER).read_bytes))
    part = blob_path(tiny_model_store, f"{digest}-partial")
    pull = asyncio.create_task(
        ask(bare_engine.port, "POST", "/api/pull", json.dumps({"model": name, "insecure": True}).encode())
    )
    await eventually(lambda: _is_open(bare_engine, tiny_model_store, part))
    held = await asyncio.to_thread(open_files, bare_engine.pid, tiny_model_store)
    purged = await asyncio.to_thread(purge, tiny_model_store, [digest], wanted=(), open_files=held)
    registry.switches.stall_after_bytes = None
    pull.cancel()

    assert purged.freed_bytes == 0
    assert await asyncio.to_thread(part.exists)


async def _is_open(engine: BareEngine, store: Path, file: Path) -> bool:
    return str(file) in await asyncio.to_thread(open_files, engine.pid, store)
