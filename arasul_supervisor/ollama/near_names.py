"""Names that a person may have meant who asked for a model that does not exist: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.ollama.names import canonical
from arasul_supervisor.settings.model_names import DOCUMENTED_MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a person may have read, or have in mind.
DOCUMENTED: Final = (*DOCUMENTED_MODELS, "qwen3:14b")

# Of SequenceMatcher.ratio(), 1 for equal texts. `llama3` and `llama3.1` have 0.86, `lama3` and `llama3.1` 0.77;
# `phi4` and `phi3` have 0.75 and are two models.
_NEAR_MODEL: Final = 0.76
_NEAR_TAG: Final = 0.55  # `7b-q4` and `7b` have 0.57, `7b` and `8b` 0.5
_NEAR_PLACE: Final = 0.85
_NEAR_WHOLE: Final = 0.85

_DEFAULT_PLACE: Final = "registry.ollama.ai/library"  # as canonical() spells it out
_NO_TAG: Final = "latest"


def near_names(
    name: str, *, installed: Iterable[str], aliases: Iterable[str], most: int = 3
) -> tuple[str, ...]:
    """The nearest first; none that means the same as the name itself, and none that is far.

    Near is another tag of the same model, a misspelt model with about that tag, and a name that is nearly the same
    as a whole, such as `llama3.1-8b`.

    :param name: a well-formed model name
    :param installed: names of the models that are there
    :param aliases: names that stand for a model
    """
    asked = canonical(name)
    known = {canonical(other): other for other in (*DOCUMENTED, *aliases, *installed)}
    known.pop(asked, None)
    near = [full for full in known if _is_near(asked, full)]
    near.sort(key=lambda full: -_ratio(_short(asked), _short(full)))
    return tuple(known[full] for full in near[:most])


def near_names_hint(names: Iterable[str]) -> str | None:
    """`Did you mean 'a', 'b' or 'c'?`; None without a name."""
    *others, last = [f"'{name}'" for name in names] or [""]
    if not last:
        return None
    return f"Did you mean {', '.join(others)} or {last}?" if others else f"Did you mean {last}?"


def _is_near(asked: str, other: str) -> bool:
    (place, model, tag), (other_place, other_model, other_tag) = _parts(asked), _parts(other)
    if place != _DEFAULT_PLACE and _ratio(place, other_place) < _NEAR_PLACE:
        return False
    return (
        model == other_model
        or (_ratio(model, other_model) >= _NEAR_MODEL and _is_near_tag(tag, other_tag))
        or _ratio(_short(asked), _short(other)) >= _NEAR_WHOLE
    )


def _is_near_tag(tag: str, other: str) -> bool:
    return tag == _NO_TAG or _ratio(tag, other) >= _NEAR_TAG


def _parts(full: str) -> tuple[str, str, str]:
    place, _, rest = full.rpartition("/")
    model, _, tag = rest.partition(":")
    return place, model, tag


def _short(full: str) -> str:
    """Without host and namespace, and without the tag that a name without one has."""
    _, model, tag = _parts(full)
    return model if tag == _NO_TAG else f"{model}:{tag}"


def _ratio(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # only here: the idle daemon does without

    return SequenceMatcher(None, one, other, autojunk=False).ratio()
