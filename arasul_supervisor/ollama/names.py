"""Model names as Ollama reads them: `[scheme://][host[:port]/][namespace/]model[:tag]`."""

from __future__ import annotations

from typing import Final

from arasul_supervisor.errors import BadInput
from arasul_supervisor.settings.model_names import parse_model_name

MAX_NAME_CHARS: Final = 255

_DEFAULT_HOST: Final = "registry.ollama.ai"
_DEFAULT_NAMESPACE: Final = "library"
_DEFAULT_TAG: Final = "latest"


def check_model_name(raw: object) -> str:
    """The name itself when Ollama could know a model by it.

    A leading `http://` or `https://` is accepted before a host, as Ollama does (facts/ollama.md §9).

    :raises BadInput: with the texts of CONTRACT §4: missing, too long, or not a name
    """
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise BadInput("model parameter required")
    if not isinstance(raw, str):
        raise BadInput("Invalid model name format")
    if len(raw) > MAX_NAME_CHARS:
        raise BadInput(f"Model name too long: {len(raw)} characters, at most {MAX_NAME_CHARS} are allowed.")
    if ".." in raw:
        raise BadInput("Invalid model name format")
    try:
        return parse_model_name(raw)
    except ValueError:
        raise BadInput("Invalid model name format") from None


def canonical(name: str) -> str:
    """The name in full and without its scheme: `tiny` is `registry.ollama.ai/library/tiny:latest`.

    Folded, because Ollama compares names without regard to case.
    """
    *path, last = (name.partition("://")[2] or name).split("/")
    model, _, tag = last.partition(":")
    namespace = path[-1] if path else _DEFAULT_NAMESPACE
    host = "/".join(path[:-1]) or _DEFAULT_HOST
    return f"{host}/{namespace}/{model}:{tag or _DEFAULT_TAG}".casefold()


def same_model(one: str, other: str) -> bool:
    """True when both names mean the same model to Ollama."""
    return canonical(one) == canonical(other)
