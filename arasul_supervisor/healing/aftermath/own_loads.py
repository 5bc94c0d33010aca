"""The loads that the daemon itself has under way, whoever asked for them: seen by the diagnosis, ended by a cure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class OwnLoads:
    """Knows them while they last."""

    def __init__(self) -> None:
        self._loads: dict[int, tuple[str, Callable[[str], None]]] = {}
        self._number = 0

    @property
    def current(self) -> str | None:
        """The model that has been loading longest."""
        return next((model for model, _ in self._loads.values()), None)

    @contextmanager
    def under_way(self, model: str, end: Callable[[str], None]) -> Iterator[None]:
        """Inside, that model is being loaded.

        :param end: ends the load; takes the reason as a clause
        """
        self._number += 1
        number = self._number
        self._loads[number] = (model, end)
        try:
            yield
        finally:
            del self._loads[number]

    def end_all(self, why: str) -> None:
        """End each of them.

        :param why: a clause, such as `its load did not move`
        """
        for _, end in tuple(self._loads.values()):
            end(why)
