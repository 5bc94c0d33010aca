"""How a value is quoted in a message: on one line, not endless, and without a password."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 80


def quoted(text: str) -> str:
    """The text in quotes. Whatever stands before an '@' may be a user name and a password, and is left out."""
    shown = f"***@{text.rpartition('@')[2]}" if "@" in text else text
    return repr(shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…")
