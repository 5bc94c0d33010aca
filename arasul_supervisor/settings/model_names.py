"""Model names and their aliases: what is well-formed, and where a chain of aliases ends."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from arasul_supervisor.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

# The public documentation's table of supported models: each name, and the tag of the library that it leads to; None
# would say that the library has none. tests/recorded/library_tags.txt says how each tag is known.
DOCUMENTED_MODELS: Final[Mapping[str, str | None]] = {
    "qwen3:14b-q8": "qwen3:14b-q8_0",
    "llama3.1:8b": "llama3.1:8b",
    "llama3.1:70b": "llama3.1:70b",
    "llama3.1:70b-q4": "llama3.1:70b-instruct-q4_K_M",
    "mistral:7b": "mistral:7b",
    "codellama:7b": "codellama:7b",
    "phi3:mini": "phi3:mini",
}
# Those of them that the library has under another name only (facts/ollama.md §8).
BUILT_IN_ALIASES: Final[Mapping[str, str]] = {
    name: tag for name, tag in DOCUMENTED_MODELS.items() if tag is not None and tag != name
}

_LONGEST: Final = 255
_DEFAULT_HOST: Final = "registry.ollama.ai"
_DEFAULT_NAMESPACE: Final = "library"
_DEFAULT_TAG: Final = "latest"
# Ollama's own grammar (types/model/name.go): [[scheme://]host[:port]/][namespace/]model[:tag]
PORT_PATTERN: Final = r"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})"
_MODEL_NAME: Final = re.compile(
    rf"(?:(?:(?:https?://)?[A-Za-z0-9_][A-Za-z0-9_.-]*(?::{PORT_PATTERN})?/)?[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}}/)?"
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
    """The real tag at the end of each alias's chain, by the alias's canonical name.

    A user's alias beats a built-in one of the same name.

    :raises ValueError: when a chain comes back to itself, or one name stands for two models
    """
    own = _by_canonical_name(extra)
    built_in = {canonical(name): (name, tag) for name, tag in BUILT_IN_ALIASES.items()}
    steps = {key: target for key, (_, target) in {**built_in, **own}.items()}
    ends = {key: _end_of_chain(key, steps) for key in steps}
    for key, (name, tag) in built_in.items():
        if key not in own and canonical(tag) in own:
            raise ValueError(
                f"{own[canonical(tag)][0]!r} is the real tag that the built-in alias {name!r} stands for; "
                "it cannot stand for another model too"
            )
    return ends


@lru_cache(maxsize=2048)
def canonical(name: str) -> str:
    """The name in full and without its scheme: `tiny` is `registry.ollama.ai/library/tiny:latest`.

    Folded, because Ollama compares names without regard to case.
    """
    host, namespace, model, tag = name_parts(name)
    return f"{host}/{namespace}/{model}:{tag}".casefold()


def name_parts(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag, each as it is written; Ollama's own where the name leaves one out."""
    *path, last = (name.partition("://")[2] or name).split("/")
    model, _, tag = last.partition(":")
    host = "/".join(path[:-1]) or _DEFAULT_HOST
    return host, path[-1] if path else _DEFAULT_NAMESPACE, model, tag or _DEFAULT_TAG


def _by_canonical_name(aliases: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Each alias as it was written, with its target."""
    found: dict[str, tuple[str, str]] = {}
    for name, target in aliases.items():
        first, other = found.setdefault(canonical(name), (name, target))
        if canonical(other) != canonical(target):
            spelled = repr(name) if name == first else f"{first!r}, which is {name!r} too,"
            raise ValueError(f"{spelled} stands for two models, {other!r} and {target!r}")
    return found


def _end_of_chain(key: str, steps: Mapping[str, str]) -> str:
    seen, shown = [key], [_shortened(key)]
    target = steps[key]
    while canonical(target) in steps:
        shown.append(target)
        if canonical(target) in seen:
            raise ValueError(f"the aliases go in a circle: {' -> '.join(shown)}")
        seen.append(canonical(target))
        target = steps[canonical(target)]
    return target


def _shortened(key: str) -> str:
    """A canonical name as people write it."""
    return key.removeprefix(f"{_DEFAULT_HOST}/").removeprefix(f"{_DEFAULT_NAMESPACE}/")


def _checked(name: str) -> str:
    try:
        return parse_model_name(name)
    except ValueError:
        raise ValueError(f"{quoted(name)} is no model name") from None
