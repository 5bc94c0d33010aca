"""What is in the JSON body of an answer: any key may be missing, null or strange. Pure, and light to import."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Body: TypeAlias = Mapping[str, object]


def part(body: Body, key: str) -> Body:
    """The object under `key`; an empty one where there is none."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def number(body: Body, key: str) -> float | None:
    """The finite number under `key`."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def word(body: Body, key: str) -> str:
    """The text under `key`; empty where there is none."""
    value = body.get(key)
    return value if isinstance(value, str) else ""


def printable(text: str) -> str:
    """The text with what a terminal would obey, or would not show, written out as Python does: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
