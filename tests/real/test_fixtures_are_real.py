"""The real tier's own ground: the installed Ollama loads the tests' models, and pulls from the tests' registry."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine import tiny_gguf
from tests.engine.store import blob_path, install_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.engine.daemon import Daemon
    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles
    from tests.engine.tiny_gguf import Shape


def test_the_engine_is_the_pinned_version(bare_engine: BareEngine) -> None:
    assert bare_engine.request("GET", "/api/version").json() == {"version": "0.34.4"}


@pytest.mark.parametrize(
    "shape",
    [tiny_gguf.NORMAL, tiny_gguf.SMALLEST, tiny_gguf.OTHER],
    ids=["normal", "smallest", "another seed"],
)
def test_a_tiny_model_answers_in_letters(
    bare_engine: BareEngine, model_files: ModelFiles, tiny_model_store: Path, shape: Shape
) -> None:
    install_model(tiny_model_store, "mine:v1", model_files(shape))

    answer = _generate(bare_engine, "mine:v1", num_predict=40)

    assert answer["done"] is True
    assert answer["eval_count"] == 40
    assert set(answer["response"]) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_a_slow_model_answers_in_letters(
    bare_engine: BareEngine, model_files: ModelFiles, tiny_model_store: Path
) -> None:
    install_model(tiny_model_store, "slow", model_files(tiny_gguf.SLOW))

    answer = _generate(bare_engine, "slow", num_predict=20)

    assert answer["done"] is True
    assert set(answer["response"]) <= set("abcdefghijklmnopqrstuvwxyz ")


@pytest.mark.parametrize(
    "shape",
    [tiny_gguf.WITHOUT_TOKENS, tiny_gguf.WITHOUT_TENSOR, tiny_gguf.UNKNOWN_ARCHITECTURE],
    ids=["without tokens", "without a tensor", "of an unknown architecture"],
)
def test_a_broken_model_fails_to_load_and_the_engine_lives(
    bare_engine: BareEngine, model_files: ModelFiles, tiny_model_store: Path, shape: Shape
) -> None:
    install_model(tiny_model_store, "broken", model_files(shape))

    failed = bare_engine.request("POST", "/api/generate", {"model": "broken", "prompt": "a", "stream": False})

    assert failed.status == 500
    assert _generate(bare_engine, "tiny", num_predict=4)["done"] is True


def test_an_embedding_model_embeds(
    bare_engine: BareEngine, model_files: ModelFiles, tiny_model_store: Path
) -> None:
    install_model(tiny_model_store, "embedder", model_files(tiny_gguf.EMBEDDING))

    answer = bare_engine.request("POST", "/api/embed", {"model": "embedder", "input": "abc"})

    assert [len(vector) for vector in answer.json()["embeddings"]] == [64]


def test_a_daemon_over_the_real_engine_answers(
    real_daemon: Callable[[Mapping[str, str | None]], Daemon],
) -> None:
    running = real_daemon({"LLM_MODEL": "tiny"})

    body = {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    answer = running.engine("POST", "/api/generate", body)

    assert answer.json()["done"] is True


def test_a_model_is_pulled_whole(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))

    lines = _pull(bare_engine, name)

    assert lines[-1] == {"status": "success"}
    assert _generate(bare_engine, name, num_predict=4)["done"] is True
    assert sum(part.sent_bytes for part in registry.ranges()) == sum(
        len(blob) for layers in registry.models.values() for blob in layers.blobs.values()
    )


def test_an_unknown_model_is_refused_by_the_registry(bare_engine: BareEngine, registry: Registry) -> None:
    lines = _pull(bare_engine, registry.name("nope"))

    assert lines[-1] == {"error": "pull model manifest: file does not exist"}


def test_a_flipped_byte_is_a_digest_mismatch(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.flip_byte_at = 300_000

    lines = _pull(bare_engine, name)

    assert lines[-1]["error"].startswith("digest mismatch, file must be downloaded again")


def test_a_registry_without_location_is_refused(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.sends_location = False

    lines = _pull(bare_engine, name)

    assert lines[-1] == {"error": "http: no Location header in response"}


def test_a_registry_error_is_told(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.manifest_status = 500

    lines = _pull(bare_engine, name)

    assert lines[-1] == {"error": "pull model manifest: 500: boom"}


def test_a_body_cut_once_is_pulled_all_the_same(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles, tiny_model_store: Path
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.close_after_bytes = 100_000
    registry.switches.faults_left = 1

    lines = _pull(bare_engine, name)

    digest = next(iter(next(iter(registry.models.values())).blobs))
    assert lines[-1] == {"status": "success"}
    assert blob_path(tiny_model_store, digest).read_bytes() == model_files(tiny_gguf.OTHER).read_bytes()
    assert registry.requests("range") >= 3  # the cut one, its repetition, and the config


@pytest.mark.parametrize("kind", ["manifest", "HEAD", "GET", "range"])
def test_a_silent_registry_is_waited_for(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles, kind: str
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.silent_on = frozenset({kind})

    lines = _pull_for(bare_engine, name, limit_s=1.5)

    assert not any("error" in line or line["status"] == "success" for line in lines)
    assert registry.requests(kind) >= 1


def test_a_slow_registry_is_as_slow_as_asked(
    bare_engine: BareEngine, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("other", model_files(tiny_gguf.OTHER))
    registry.switches.bytes_per_s = 300_000  # 451 kB take 1.5 s

    answer = bare_engine.request("POST", "/api/pull", {"model": name, "insecure": True})

    assert answer.took_s > 1.3


def _generate(engine: BareEngine, model: str, *, num_predict: int) -> dict[str, Any]:
    options = {"num_predict": num_predict}
    body = {"model": model, "prompt": "a", "stream": False, "options": options}
    answer = engine.request("POST", "/api/generate", body)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def _pull(engine: BareEngine, name: str) -> list[dict[str, Any]]:
    answer = engine.request("POST", "/api/pull", {"model": name, "insecure": True})
    return [json.loads(line) for line in answer.body.splitlines()]


def _pull_for(engine: BareEngine, name: str, *, limit_s: float) -> list[dict[str, Any]]:
    """What a pull says until the limit; then the client goes away."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10 * limit_s)
    connection.request("POST", "/api/pull", body=json.dumps({"model": name, "insecure": True}))
    hang_up = threading.Timer(limit_s, connection.sock.shutdown, [socket.SHUT_RDWR])
    hang_up.start()
    said: list[bytes] = []
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        said.extend(connection.getresponse())
    hang_up.join()
    connection.close()
    return [json.loads(line) for line in said if line.endswith(b"\n")]
