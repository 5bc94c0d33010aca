"""Model names and their aliases: what is well-formed, and where a chain of aliases ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arasul_supervisor.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

# Names of the public documentation that the library does not have (facts/ollama.md §8).
BUILT_IN_ALIASES: Final[Mapping[str, str]] = {
    "qwen3:14b-q8": "qwen3:14b-q8_0",
    "llama3.1:70b-q4": "llama3.1:70b-instruct-q4_K_M",
}

_LONGEST: Final = 255
# Ollama's own grammar (types/model/name.go): [[scheme://]host[:port]/][namespace/]model[:tag]
_MODEL_NAME: Final = re.compile(
    r"(?:(?:(?:https?://)?[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[0-9]{1,5})?/)?[A-Za-z0-9_][A-Za-z0-9_-]{0,79}/)?"
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})?"
)


def parse_model_name(text: str) -> str:
    """The name itself when Ollama would take it; ValueError with the reason."""
    if len(text) > _LONGEST:
        raise ValueError(f"a model name of {len(text)} characters is too long")
    if ".." in text or not _MODEL_NAME.fullmatch(text):
        raise ValueError("that is no model name")
    return text


def parse_aliases(text: str) -> dict[str, str]:
    """`name=tag,name=tag` as a mapping; ValueError with the reason, also for cycles."""
    aliases: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, tag = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ValueError(f"{quoted(entry)} lacks the '='")
        name, tag = _checked(name), _checked(tag)
        if aliases.get(name, tag) != tag:
            raise ValueError(f"{name!r} stands for two models, {aliases[name]!r} and {tag!r}")
        aliases[name] = tag
    resolve_aliases(aliases)
    return aliases


def resolve_aliases(extra: Mapping[str, str]) -> dict[str, str]:
    """Each alias, with its tag spelled out, and the real tag at the end of its chain.

    A user's alias beats a built-in one of the same name.

    :raises ValueError: when a chain comes back to itself, or one name stands for two models
    """
    spelled_out: dict[str, str] = {}
    for name, target in extra.items():
        if spelled_out.setdefault(with_tag(name), target) != target:
            raise ValueError(
                f"{with_tag(name)!r} stands for two models, {spelled_out[with_tag(name)]!r} and {target!r}"
            )
    steps = {**BUILT_IN_ALIASES, **spelled_out}
    return {name: _end_of_chain(name, steps) for name in steps}


def with_tag(name: str) -> str:
    """The name with `:latest` where it has no tag, as Ollama reads it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _end_of_chain(name: str, steps: Mapping[str, str]) -> str:
    seen = [name]
    target = steps[name]
    while with_tag(target) in steps:
        if with_tag(target) in seen:
            raise ValueError(f"the aliases go in a circle: {' -> '.join((*seen, target))}")
        seen.append(with_tag(target))
        target = steps[with_tag(target)]
    return target


def _checked(name: str) -> str:
    try:
        return parse_model_name(name)
    except ValueError:
        raise ValueError(f"{quoted(name)} is no model name") from None
