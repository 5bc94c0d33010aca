"""`/api/info`: what runs here and how it is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor import __version__
from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.settings import describe

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.telemetry.sampler import Sampler

SERVICE: Final = "llm-service"


@dataclass(frozen=True, slots=True)
class SettingView:
    """One effective setting and where it came from."""

    value: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class InfoView:
    """The body of `/api/info`; `settings` by the name of the variable."""

    service: str
    version: str
    ollama_url: str
    ollama_version: str | None
    default_model: str
    api_port: int
    platform: dict[str, Any]  # Any: JSON, made by telemetry
    settings: dict[str, SettingView]


class Info:
    """Answers from the settings and the engine's snapshot."""

    def __init__(self, settings: Settings, engine: Engine, *, sampler: Sampler, clock: Clock) -> None:
        self._settings = settings
        self._engine = engine
        self._sampler = sampler
        self._clock = clock
        self._rows = {row.variable: SettingView(row.value, row.origin) for row in describe(settings, {})}

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (Route("GET", "/api/info", self.info, "What runs here", {200: InfoView}),)

    def info(self, call: Call) -> Reply:
        """Service, versions, addresses, settings."""
        platform = self._sampler.stats(self._clock.mono()).get("platform")
        return Reply(
            InfoView(
                service=SERVICE,
                version=__version__,
                ollama_url=self._settings.engine_url,
                ollama_version=self._engine.snapshot.engine_version,
                default_model=self._settings.default_model,
                api_port=self._settings.port,
                platform=platform if isinstance(platform, dict) else {},
                settings=self._rows,
            )
        )
