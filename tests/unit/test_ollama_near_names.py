"""Guards that whoever asks for a model that does not exist is told the names that come near."""

from __future__ import annotations

import pytest

from arasul_supervisor.ollama.near_names import DOCUMENTED, near_names, near_names_hint
from arasul_supervisor.settings.model_names import parse_model_name

INSTALLED = (
    "tiny:latest",
    "qwen3:14b-q8_0",
    "127.0.0.1:5000/library/tinier:latest",
    "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
)


def near(name: str) -> tuple[str, ...]:
    return near_names(name, installed=INSTALLED, aliases=("chef:v1",))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        pytest.param("qwen3:14b-q9", "qwen3:14b-q8", id="wrong tag"),
        pytest.param("lama3.1:8b", "llama3.1:8b", id="misspelt model"),
        pytest.param("mistal", "mistral:7b", id="misspelt model without a tag"),
        pytest.param("mistal:7b-q4", "mistral:7b", id="misspelt model, tag too long"),
        pytest.param("llama3.1-8b", "llama3.1:8b", id="hyphen for colon"),
        pytest.param("Phi3:Mni", "phi3:mini", id="capitals"),
        pytest.param("tinny", "tiny:latest", id="installed"),
        pytest.param("tinier", "127.0.0.1:5000/library/tinier:latest", id="installed, host left out"),
        pytest.param(
            "hf.co/bartowsky/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
            "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
            id="misspelt namespace",
        ),
        pytest.param("cheff:v1", "chef:v1", id="alias"),
    ],
)
def test_what_comes_nearest_is_named_first(asked: str, meant: str) -> None:
    assert near(asked)[0] == meant


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("deepseek-r1:8b", id="another model with a known tag"),
        pytest.param("phi4", id="another version in a short name"),
        pytest.param("llama3.2:3b", id="another version with another tag"),
        pytest.param("http://127.0.0.1:5000/library/mistral:7b", id="another host"),
        pytest.param("x", id="one letter"),
    ],
)
def test_what_is_far_is_not_named(asked: str) -> None:
    assert near(asked) == ()


@pytest.mark.parametrize("asked", ["qwen3:14b-q8", "QWEN3:14B-q8", "registry.ollama.ai/library/qwen3:14b-q8"])
def test_the_name_itself_is_not_named(asked: str) -> None:
    assert "qwen3:14b-q8" not in near(asked)


def test_no_more_are_named_than_asked_for() -> None:
    assert len(near_names("llama3.1", installed=(), aliases=(), most=2)) == 2


def test_a_model_known_twice_is_named_once_as_it_is_listed() -> None:
    named = near_names("mistral", installed=("Mistral:7b",), aliases=())

    assert named == ("Mistral:7b",)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_is_documented_is_a_name(name: str) -> None:
    assert parse_model_name(name) == name


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ((), None),
        (("a",), "Did you mean 'a'?"),
        (("a", "b"), "Did you mean 'a' or 'b'?"),
        (("a", "b", "c"), "Did you mean 'a', 'b' or 'c'?"),
    ],
)
def test_the_hint_is_a_question(names: tuple[str, ...], hint: str | None) -> None:
    assert near_names_hint(names) == hint
