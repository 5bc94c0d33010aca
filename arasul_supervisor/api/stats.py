"""`/api/stats`: what the machine says, from the sampler's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.telemetry.sampler import Sampler

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
        "engine": {"type": "object"},
        "daemon": {"type": "object"},
        "platform": {"type": "object"},
    },
}


class Stats:
    """Shows the sampler's figures; an unknown one is null."""

    def __init__(self, sampler: Sampler, clock: Clock) -> None:
        self._sampler = sampler
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (
            Route("GET", "/api/stats", self.stats, "Figures of GPU, host and engine", {200: STATS_SCHEMA}),
        )

    def stats(self, call: Call) -> Reply:
        """The figures, with their age."""
        return Reply(self._sampler.stats(self._clock.mono()))
