"""Model names as Ollama reads them: `[scheme://][host[:port]/][namespace/]model[:tag]`."""

from __future__ import annotations

from typing import Final

from arasul_supervisor.errors import BadInput
from arasul_supervisor.settings.model_names import canonical as canonical
from arasul_supervisor.settings.model_names import parse_model_name

MAX_NAME_CHARS: Final = 255


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


def same_model(one: str, other: str) -> bool:
    """True when both names mean the same model to Ollama."""
    return canonical(one) == canonical(other)
