"""Whom restoring asks of the models, and how it loads one the way it lay in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedThen
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.ollama.residency import Residency

FOR_EVER_S: Final = -1  # keep-alive as Ollama reads it (facts/ollama.md §4.2)


@dataclass(frozen=True, slots=True)
class Source:
    """Whom to ask of the models, and who loads one; all raise ArasulError where Ollama does not do it.

    `loaded`: what lies in memory now. `mark`: see `LoadProgress`.
    """

    load: Callable[[LoadedThen], Awaitable[object]]
    loaded: Callable[[], Awaitable[Sequence[LoadedModel]]]
    is_installed: Callable[[str], Awaitable[bool]]
    mark: Callable[[], Awaitable[object]]


def loads_as_it_was(
    residency: Residency, load_options: Callable[[], Mapping[str, int]]
) -> Callable[[LoadedThen], Awaitable[LoadedModel]]:
    """How a model is loaded the way it lay in memory: as pinned, with as much context.

    The context that Ollama lists is the one to ask for: that never makes it load anew, while none would, where a
    caller had asked for another than the default (measured on 0.34.4, also with parallel requests).
    """

    async def load(model: LoadedThen) -> LoadedModel:
        context = {} if model.context_length is None else {"num_ctx": model.context_length}
        return await residency.load(
            model.name,
            options={**load_options(), **context},
            keep_alive_s=FOR_EVER_S if model.is_pinned else None,
        )

    return load
