"""How every room reports what happened: one event name in snake case, plus fields."""

from __future__ import annotations

from typing import Protocol


class EventLog(Protocol):
    """The daemon's own log. Never give it a prompt, a request body, a token or a password."""

    def debug(self, event: str, **fields: object) -> None:
        """Report a detail for whoever looks for a fault."""

    def info(self, event: str, **fields: object) -> None:
        """Report a step in the life of the engine or the daemon."""

    def warning(self, event: str, **fields: object) -> None:
        """Report something that a person should look at."""

    def error(self, event: str, **fields: object) -> None:
        """Report that something is lost."""
