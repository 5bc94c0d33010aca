"""Guards CONTRACT §4: which model names are taken, and the exact texts for those that are not."""

from __future__ import annotations

import pytest

from arasul_supervisor.errors import BadInput
from arasul_supervisor.ollama.names import check_model_name, same_model


@pytest.mark.parametrize(
    "name",
    [
        "llama3.2",
        "qwen3:14b-q8_0",
        "namespace/model:tag",
        "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
        "127.0.0.1:5000/library/tiny:latest",
        "http://127.0.0.1:5000/library/tiny:latest",
        "registry.example.org/team/model",
        "localhost:65535/team/model",
    ],
)
def test_a_name_that_ollama_could_know_is_taken_as_it_is(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize("raw", [None, "", "   "], ids=["null", "empty", "blank"])
def test_a_missing_name_is_asked_for(raw: object) -> None:
    with pytest.raises(BadInput) as caught:
        check_model_name(raw)

    assert caught.value.sentence == "model parameter required"


@pytest.mark.parametrize(
    "raw",
    [
        "a b",
        "tiny\n",
        "tiny\x00",
        "-rf",
        ".hidden",
        "../../etc/passwd",
        "library/../tiny",
        "a..b",
        "a/b/c/d",
        "/tiny",
        "tiny:",
        "tiny:a:b",
        "tiny;ls",
        "modèle",
        "user:secret@host/ns/model",
        "127.0.0.1:65536/library/tiny",
        42,
        True,
        ["tiny"],
        {"name": "tiny"},
    ],
)
def test_what_is_no_name_is_refused_with_the_text_of_the_contract(raw: object) -> None:
    with pytest.raises(BadInput) as caught:
        check_model_name(raw)

    assert caught.value.sentence == "Invalid model name format"


def test_a_name_over_255_characters_is_too_long() -> None:
    with pytest.raises(BadInput, match="too long"):
        check_model_name("a" * 256)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tiny", "tiny:latest"),
        ("tiny", "library/tiny"),
        ("tiny", "registry.ollama.ai/library/tiny:latest"),
        ("Tiny", "tiny"),
        ("http://127.0.0.1:5000/library/tiny", "127.0.0.1:5000/library/tiny:latest"),
    ],
)
def test_two_spellings_of_one_model_are_the_same(one: str, other: str) -> None:
    assert same_model(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("tiny", "tiny:q8"), ("tiny", "me/tiny"), ("tiny", "127.0.0.1:5000/library/tiny"), ("tiny", "tiny2")],
)
def test_different_models_are_not_the_same(one: str, other: str) -> None:
    assert not same_model(one, other)
