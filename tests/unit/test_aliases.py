"""Guards CONTRACT §2 (`ARASUL_ALIASES`) and DESIGN §7: names of the documentation lead to real tags."""

from __future__ import annotations

import pytest

from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.settings import SettingsError, load_settings


@pytest.mark.parametrize(
    ("alias", "tag"),
    [("qwen3:14b-q8", "qwen3:14b-q8_0"), ("llama3.1:70b-q4", "llama3.1:70b-instruct-q4_K_M")],
)
def test_the_documented_names_lead_to_tags_that_the_library_has(alias: str, tag: str) -> None:
    assert Aliases({}).resolve(alias) == tag


@pytest.mark.parametrize("name", ["tiny", "qwen3:14b", "qwen3:14b-q8_0", "hf.co/u/m:Q4_K_M", "not a name"])
def test_any_other_name_stays_as_it_is(name: str) -> None:
    assert Aliases({}).resolve(name) == name


def test_an_alias_without_a_tag_means_latest_as_in_ollama() -> None:
    aliases = Aliases({"small": "qwen3:0.6b"})

    assert aliases.resolve("small") == aliases.resolve("small:latest") == "qwen3:0.6b"
    assert aliases.resolve("small:other") == "small:other"


def test_a_chain_of_aliases_leads_to_its_end() -> None:
    aliases = Aliases({"a": "b:latest", "b": "qwen3:14b-q8"})

    assert aliases.resolve("a") == "qwen3:14b-q8_0"


def test_a_users_alias_beats_a_built_in_one() -> None:
    assert Aliases({"qwen3:14b-q8": "qwen3:14b"}).resolve("qwen3:14b-q8") == "qwen3:14b"


@pytest.mark.parametrize(
    "extra",
    [
        {"a": "a"},
        {"a": "a:latest"},
        {"a": "b", "b": "c", "c": "a:latest"},
        {"qwen3:14b-q8_0": "qwen3:14b-q8"},
    ],
    ids=["itself", "itself by its tag", "a round of three", "through a built-in one"],
)
def test_a_circle_is_refused(extra: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="go in a circle: "):
        Aliases(extra)


def test_one_name_for_two_models_is_refused() -> None:
    with pytest.raises(ValueError, match="stands for two models"):
        Aliases({"a": "b", "a:latest": "c"})


def test_the_setting_is_read_as_pairs() -> None:
    settings = load_settings({"HOME": "/h", "ARASUL_ALIASES": "small=qwen3:0.6b, big = llama3.1:70b ,"})

    assert settings.aliases == {"small": "qwen3:0.6b", "big": "llama3.1:70b"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("small", "lacks the '='"),
        ("=qwen3", "is no model name"),
        ("small=", "is no model name"),
        ("small=a b", "is no model name"),
        ("a=b,a=c", "'a' stands for two models, 'b' and 'c'"),
        ("a=b,b=a", "go in a circle"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"HOME": "/h", "ARASUL_ALIASES": text})

    (problem,) = raised.value.problems
    assert problem.startswith("ARASUL_ALIASES is ")
    assert reason in problem
