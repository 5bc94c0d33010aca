"""What stands on the heavy libraries: the Ollama adapter, the telemetry and the API. Composed after the spawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.api.compose import build_resources
from arasul_supervisor.api.server import serve
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.residency import Residency
from arasul_supervisor.telemetry.sampler import Sampler

if TYPE_CHECKING:
    import socket

    from arasul_supervisor.api.server import Runner
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.launch_plan import LaunchPlan
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.init import Reaper
    from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook


class Services:
    """Owns the parts that speak to the engine or to callers."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        engine_log: EngineLog,
        *,
        plan: LaunchPlan,
        gpu_memory: GpuMemoryBook,
        reaper: Reaper,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self.sampler = Sampler(
            settings,
            clock,
            lambda: engine.snapshot.pid,
            log=log,
            own=reaper.own,
            disown=reaper.disown,
            store=plan.model_store,
            memory_book=gpu_memory,
        )
        self._engine = engine
        self._client = OllamaClient(settings.engine_url, clock)
        self._catalogue = Catalogue(self._client, clock)
        self._residency = Residency(
            self._client,
            clock,
            end_runners=engine.kill_runners,
            catalogue=self._catalogue,
            keep_alive_s=settings.keep_alive_s,
        )
        self._pulls = PullJobs(
            self._client,
            self._catalogue,
            aliases=Aliases(settings.aliases),
            clock=clock,
            wait_ready=self._wait_ready,
            concurrency=settings.pulls,
            after_change=self._catalogue.invalidate,
        )
        engine.before_terminate(self._pulls.pause)
        self._api = build_resources(
            settings,
            engine,
            engine_log=engine_log,
            catalogue=self._catalogue,
            residency=self._residency,
            pulls=self._pulls,
            client=self._client,
            sampler=self.sampler,
            clock=clock,
            daemon_log=log,
            store=plan.model_store,
            load_options=plan.load_options,
            cpu_wish=plan.cpu_wish,
        )
        self._runner: Runner | None = None

    async def serve(self, sock: socket.socket) -> None:
        """Answer on the socket that has been listening since the launch."""
        self._runner = await serve(self._api, sock)

    async def close(self) -> None:
        """End the pulls, so that their callers hear why; let all callers go, and hang up on the engine."""
        await self._pulls.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for part in (self._residency, self._catalogue, self._client):
            await part.close()

    async def _wait_ready(self) -> None:
        await self._engine.wait_until(lambda seen: seen.is_answering)
