"""Guards CONTRACT §2 (`ARASUL_ALIASES`) and DESIGN §7: names of the documentation lead to real tags."""

from __future__ import annotations

import pytest

from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.settings import SettingsError, load_settings
from arasul_supervisor.settings.model_names import canonical


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
        {"Known:q8": "known:q8"},
        {"a": "registry.ollama.ai/library/a"},
        {"a": "https://registry.ollama.ai/library/B", "b": "A"},
    ],
    ids=[
        "itself",
        "itself by its tag",
        "a round of three",
        "through a built-in one",
        "itself in other letters",
        "itself in full",
        "a round of two spellings",
    ],
)
def test_a_circle_is_refused(extra: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="go in a circle: "):
        Aliases(extra)


@pytest.mark.parametrize(
    "alias", ["KNOWN:Q8", "registry.ollama.ai/library/known:q8", "http://registry.ollama.ai/library/Known:q8"]
)
def test_an_alias_is_found_however_it_is_spelled(alias: str) -> None:
    assert Aliases({"Known:q8": "real:q8_0"}).resolve(alias) == "real:q8_0"


def test_a_name_of_another_registry_is_no_alias() -> None:
    name = "127.0.0.1:5000/library/known:q8"

    assert Aliases({"known:q8": "real:q8_0"}).resolve(name) == name


@pytest.mark.parametrize(
    "extra",
    [
        {"a": "b", "a:latest": "c"},
        {"a": "b", "A": "c"},
        {"a": "b", "registry.ollama.ai/library/a": "c"},
    ],
    ids=["by its tag", "in other letters", "in full"],
)
def test_one_name_for_two_models_is_refused(extra: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="stands for two models, 'b' and 'c'"):
        Aliases(extra)


def test_one_model_under_two_spellings_of_one_name_is_no_contradiction() -> None:
    assert Aliases({"a": "b", "A:latest": "B:latest"}).resolve("a") == "b"


def test_the_real_tag_behind_a_built_in_alias_cannot_stand_for_another_model() -> None:
    with pytest.raises(ValueError, match=r"'Qwen3:14b-q8_0' is the real tag .* 'qwen3:14b-q8' stands for"):
        Aliases({"Qwen3:14b-q8_0": "qwen3:14b"})


def test_that_tag_may_stand_for_another_model_when_the_built_in_alias_was_replaced() -> None:
    aliases = Aliases({"qwen3:14b-q8": "small", "qwen3:14b-q8_0": "large"})

    assert [aliases.resolve(name) for name in ("qwen3:14b-q8", "qwen3:14b-q8_0")] == ["small", "large"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tiny", "TINY:latest"),
        ("tiny", "registry.ollama.ai/library/tiny"),
        ("u/tiny", "tiny"),
        ("a:b", "a:c"),
    ],
)
def test_an_alias_and_a_model_are_the_same_name_by_the_same_rule(one: str, other: str) -> None:
    assert (canonical(one) == canonical(other)) == same_model(one, other)


def test_the_aliases_are_told_as_they_were_written() -> None:
    assert Aliases({"Small": "tiny"}).names == ("qwen3:14b-q8", "llama3.1:70b-q4", "Small")


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
        ("a=b,b=a", "go in a circle: a:latest -> b -> a"),
        ("A=b,B=a", "go in a circle"),
        ("Known:q8=known:q8", "go in a circle"),
        ("qwen3:14b-q8_0=qwen3:14b", "cannot stand for another model too"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"HOME": "/h", "ARASUL_ALIASES": text})

    (problem,) = raised.value.problems
    assert problem.startswith("ARASUL_ALIASES is ")
    assert reason in problem
