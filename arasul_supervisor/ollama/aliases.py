"""Model names that stand for another one, such as names of the public documentation that the library lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.settings.model_names import BUILT_IN_ALIASES, canonical, resolve_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping


class Aliases:
    """The built-in aliases and the user's own; his beat ours."""

    def __init__(self, extra: Mapping[str, str]) -> None:
        """Resolve every chain once.

        :param extra: alias to tag, as ARASUL_ALIASES gives them
        :raises ValueError: with a sentence, for a chain that goes in a circle or a name with two meanings
        """
        self._real_names = resolve_aliases(extra)
        self._names = tuple(dict.fromkeys((*BUILT_IN_ALIASES, *extra)))

    def resolve(self, name: str) -> str:
        """The real tag behind an alias, however the alias is spelled; any other name as it is."""
        return self._real_names.get(canonical(name), name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that stand for another one, as they were written."""
        return self._names
