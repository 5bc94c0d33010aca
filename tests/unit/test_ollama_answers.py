"""Guards CONTRACT §4: garbage from the engine's address is a truthful 502, never an unexpected exception."""

from __future__ import annotations

import json

import pytest

from arasul_supervisor.errors import BadInput, DiskFull, EngineRefused, ModelNotFound
from arasul_supervisor.ollama.answers import installed_models, json_object, loaded_models
from arasul_supervisor.ollama.models import InstalledModel, LoadedModel
from arasul_supervisor.ollama.refusals import refusal

GARBAGE = {
    "nothing": b"",
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "broken JSON": b'{"models":[',
    "a list": b"[]",
    "a number": b"1e999",
    "no models": b"{}",
    "models null": b'{"models":null}',
    "models a string": b'{"models":"none"}',
    "a model without name": b'{"models":[{"size":1,"digest":"ab"}]}',
    "an empty name": b'{"models":[{"name":"","size":1,"digest":"ab"}]}',
    "a negative size": b'{"models":[{"name":"a","size":-1,"digest":"ab"}]}',
    "a huge size": b'{"models":[{"name":"a","size":' + b"9" * 5000 + b',"digest":"ab"}]}',
    "a size in words": b'{"models":[{"name":"a","size":"big","digest":"ab"}]}',
    "a broken character": b'{"models":[{"name":"\xff\xfe","size":1,"digest":"ab"}]}',
    "half a surrogate": b'{"models":[{"name":"\\ud800","size":1,"digest":"ab"}]}',
    "nesting without end": b'{"models":' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_place_of_the_models_is_refused(body: bytes) -> None:
    with pytest.raises(EngineRefused, match="not Ollama's"):
        installed_models(body)


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_place_of_the_loaded_models_is_refused(body: bytes) -> None:
    with pytest.raises(EngineRefused, match="not Ollama's"):
        loaded_models(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"<html>", b'{"a":' * 100_000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(EngineRefused):
        json_object(body, purpose="show 'tiny'")


def test_an_installed_model_has_its_digest_with_the_algorithm_and_null_for_what_is_unknown() -> None:
    body = (
        b'{"models":[{"name":"tiny:latest","model":"tiny:latest","modified_at":"2026-01-01T00:00:00Z","size":451063,'
        b'"digest":"6db0","details":{"format":"gguf","family":"llama","families":null,"parameter_size":"111K",'
        b'"quantization_level":""},"capabilities":["completion"]}]}'
    )

    assert installed_models(body) == [
        InstalledModel(
            name="tiny:latest",
            size_bytes=451063,
            modified_at="2026-01-01T00:00:00Z",
            digest="sha256:6db0",
            format="gguf",
            family="llama",
            parameter_size="111K",
            quantization=None,
            capabilities=("completion",),
        )
    ]


def listed(details: dict[str, object], **more: object) -> InstalledModel:
    """How a line of `/api/tags` is read; lines as 0.34.4 gave them, shortened."""
    tag = {"name": "m:latest", "size": 1, "digest": "ab", "details": details, **more}
    (model,) = installed_models(json.dumps({"models": [tag]}).encode())
    return model


def test_a_gguf_has_its_lengths_and_capabilities() -> None:
    details = {"format": "gguf", "families": ["llama"], "context_length": 2048, "embedding_length": 64}
    model = listed(details, capabilities=["completion", "tools"])

    assert (model.format, model.families, model.capabilities) == ("gguf", ("llama",), ("completion", "tools"))
    assert (model.context_length, model.embedding_length) == (2048, 64)


def test_a_model_of_safetensors_says_its_format() -> None:
    assert listed({"format": "safetensors", "family": "qwen3"}).format == "safetensors"


def test_a_model_in_the_cloud_says_where_and_has_no_format() -> None:
    details: dict[str, object] = {
        "format": "",
        "family": "gptoss",
        "families": ["gptoss"],
        "context_length": 131072,
    }
    model = listed(details, remote_model="gpt-oss:20b", remote_host="https://ollama.com:443")

    assert (model.remote_model, model.remote_host) == ("gpt-oss:20b", "https://ollama.com:443")
    assert (model.format, model.context_length) == (None, 131072)


def test_a_model_for_embeddings_and_one_that_sees_are_told_by_their_capabilities() -> None:
    assert listed({}, capabilities=["embedding"]).capabilities == ("embedding",)
    assert listed({}, capabilities=["completion", "vision"]).capabilities == ("completion", "vision")


def test_an_older_ollama_tells_no_capabilities_and_none_are_made_up() -> None:
    model = listed({"format": "gguf", "family": "mllama", "families": ["mllama"], "parent_model": ""})

    assert (model.families, model.capabilities, model.context_length) == (("mllama",), None, None)
    assert model.parent is None


@pytest.mark.parametrize(
    ("size", "size_vram", "expected"),
    [(0, 0, None), (1000, 0, 0.0), (1000, 250, 25.0), (1000, 1000, 100.0), (1000, 2000, 100.0)],
)
def test_the_share_on_the_gpu_is_null_when_the_size_is_unknown(
    size: int, size_vram: int, expected: float | None
) -> None:
    model = LoadedModel("a", size, size_vram, 2048, "", "sha256:ab")

    assert model.gpu_percent == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"error":"model \'zz:latest\' not found"}', ModelNotFound),
        (404, b'{"error":"model \\"x\\" not found, try pulling it first"}', ModelNotFound),
        (404, b"404 page not found", EngineRefused),
        (400, b'{"error":"invalid model name"}', BadInput),
        (400, b'{"error":"name \\"a b\\" is invalid"}', BadInput),
        (400, b'{"error":"\\"x\\" does not support generate"}', EngineRefused),
        (403, b"", EngineRefused),
        (500, b'{"error":"write /x: no space left on device"}', DiskFull),
        (
            503,
            b'{"error":"server busy, please try again.  maximum pending requests exceeded"}',
            EngineRefused,
        ),
        (500, b'{"error":{"a":1}}', EngineRefused),
        (500, b'{"error":' * 100_000, EngineRefused),
    ],
)
def test_a_refusal_becomes_the_error_of_its_meaning(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(refusal(status, body, purpose="load 'x'")) is kind


def test_a_refusal_quotes_ollama_on_one_line_of_at_most_300_characters() -> None:
    body = b'{"error":"llama-server process has terminated:\\n\\u001b[31m' + b"x" * 5000 + b'"}'

    sentence = refusal(500, body, purpose="load 'tiny'").sentence

    assert sentence.startswith(
        "Ollama refused to load 'tiny' (status 500): llama-server process has terminated: [31mxxx"
    )
    assert len(sentence) < 360
    assert sentence.isprintable()
