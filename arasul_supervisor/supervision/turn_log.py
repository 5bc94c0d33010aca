"""Keeps what one turn of the engine's owner says until the turn is over.

Rendering a line takes 0.1 ms and more, and would stand between a death and the next spawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.event_log import EventLog


class TurnLog:
    """An event log that writes at `flush`, in order."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._kept: list[tuple[Callable[..., None], str, Mapping[str, object]]] = []

    def debug(self, event: str, **fields: object) -> None:
        """Keep a detail."""
        self._kept.append((self._log.debug, event, fields))

    def info(self, event: str, **fields: object) -> None:
        """Keep a step."""
        self._kept.append((self._log.info, event, fields))

    def warning(self, event: str, **fields: object) -> None:
        """Keep a warning."""
        self._kept.append((self._log.warning, event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Keep an error."""
        self._kept.append((self._log.error, event, fields))

    def flush(self) -> None:
        """Write what was kept."""
        kept, self._kept = self._kept, []
        for write, event, fields in kept:
            write(event, **fields)
