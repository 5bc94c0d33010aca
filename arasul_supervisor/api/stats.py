"""`/api/stats`: what the machine says, from the sampler's memory, now and over the last quarter of an hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.telemetry.history import SPAN_S, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.telemetry.sampler import Sampler

    Json = Mapping[str, Any]  # Any: whatever JSON holds

FIGURE: Final = {"type": ["number", "null"]}
FLAT: Final = (
    ("gpu_utilization", "% of the busiest GPU"),
    ("gpu_memory", "MiB in use on all GPUs"),
    ("gpu_temperature", "°C of the hottest GPU"),
    ("cpu_percent", "% of the whole host"),
    ("process_memory_mb", "MiB held by the engine's tree"),
    ("timestamp", "seconds since the epoch of the newest sample"),
)
STATS_SCHEMA: Final[dict[str, Any]] = {  # Any: a JSON schema
    "type": "object",
    "required": [name for name, _ in FLAT],
    "properties": {
        **{name: {**FIGURE, "description": meaning} for name, meaning in FLAT},
        "host": {"type": "object"},
        "gpus": {"type": "array", "items": {"type": "object"}},
        "gpu_sources": {"type": "array", "items": {"type": "object"}},
        "engine": {"type": "object"},
        "daemon": {"type": "object"},
        "platform": {"type": "object"},
    },
}
MINUTE_S: Final = 60.0
MAX_MINUTES: Final = int(SPAN_S // MINUTE_S)

Minutes = Annotated[float, msgspec.Meta(gt=0, le=MAX_MINUTES, description="how far back; a fraction will do")]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which part of the history."""

    minutes: Minutes = MAX_MINUTES


@dataclass(frozen=True, slots=True)
class HistoryView:
    """Oldest first, one sample every `period_s` seconds; where the daemon stood still there are none."""

    period_s: float
    samples: tuple[Sample, ...]


class Stats:
    """Shows the sampler's figures; an unknown one is null."""

    def __init__(
        self, sampler: Sampler, clock: Clock, *, loaded: Callable[[], Collection[str]] = frozenset
    ) -> None:
        """Remember the parts.

        :param loaded: names of the loaded models, as last seen: of many names of one blob it tells which was used
        """
        self._sampler = sampler
        self._clock = clock
        self._loaded = loaded

    def routes(self) -> tuple[Route, ...]:
        """The figures of now, and those of the last minutes."""
        return (
            Route("GET", "/api/stats", self.stats, "Figures of GPU, host and engine", {200: STATS_SCHEMA}),
            Route(
                "GET",
                "/api/stats/history",
                self.history,
                "The flat figures of the last minutes, for plots",
                {200: HistoryView},
                query=HistoryQuery,
            ),
        )

    def stats(self, call: Call) -> Reply:
        """The figures, with their age."""
        return Reply(with_names_in_use(self._sampler.stats(self._clock.mono()), self._loaded()))

    def history(self, call: Call) -> Reply:
        """At most 180 samples, from memory: 1 ms."""
        history = self._sampler.history
        span_s = call.query_as(HistoryQuery).minutes * MINUTE_S
        samples = history.last(span_s, now_mono=self._clock.mono())
        return Reply(HistoryView(history.period_s, tuple(samples)))


def with_names_in_use(stats: Json, loaded: Collection[str]) -> Json:
    """The same, with each runner called by the name it was loaded by where its model has several. Pure."""
    runners = stats["engine"]["runners"] if loaded else None
    if not runners:
        return stats
    named = [{**runner, "model": _name_in_use(runner, loaded)} for runner in runners]
    return {**stats, "engine": {**stats["engine"], "runners": named}}


def _name_in_use(runner: Json, loaded: Collection[str]) -> object:
    used = (name for name in runner["models"] if any(same_model(name, one) for one in loaded))
    return next(used, runner["model"])
