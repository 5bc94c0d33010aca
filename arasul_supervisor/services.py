"""What stands on the heavy libraries: the Ollama adapter, the telemetry and the API. Composed after the spawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.compose import build_resources
from arasul_supervisor.healing.compose import Healing, Patient, Surroundings
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.offload import Offload
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.checks.jobs import CheckJobs
from arasul_supervisor.ollama.checks.repairing import Repairing
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.pulls.journal import PullJournal
from arasul_supervisor.ollama.pulls.registry import Registry
from arasul_supervisor.ollama.pulls.stall import PullLimits
from arasul_supervisor.ollama.residency import Residency
from arasul_supervisor.supervision.open_files import open_files
from arasul_supervisor.supervision.runners import runner_blobs
from arasul_supervisor.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.api.doorway import Doorway
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.launch_plan import LaunchPlan
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.init import Reaper
    from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook

RUNNER_LOOK_S: Final = 1.0


class Services:
    """Owns the parts that speak to the engine or to callers."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        engine_log: EngineLog,
        *,
        doorway: Doorway,
        plan: LaunchPlan,
        gpu_memory: GpuMemoryBook,
        reaper: Reaper,
        environ: Mapping[str, str],
        marker: str,
        leave: Callable[[int], None],
        clock: Clock,
        log: EventLog,
    ) -> None:
        """Compose the parts; only threads that wait are started.

        :param doorway: where the port is answered already
        :param environ: the daemon's, as it was at the launch
        :param marker: in the environment of all that this life of the daemon starts
        :param leave: ends the daemon with that exit code
        """
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
        self._runner_look = Offload("runner-look")
        self._store = StoreReader(plan.model_store)
        self._client = OllamaClient(settings.engine_url, clock)
        self._registry = Registry(clock, log, own=reaper.own, disown=reaper.disown)
        self._catalogue = Catalogue(self._client, clock, store=self._store)
        self._residency = Residency(
            self._client,
            clock,
            end_runners=engine.kill_runners,
            runner_blobs=self._runner_blobs,
            catalogue=self._catalogue,
            keep_alive_s=settings.keep_alive_s,
        )
        aliases = Aliases(settings.aliases)
        self._pulls = PullJobs(
            self._client,
            self._catalogue,
            registry=self._registry,
            store=self._store,
            journal=PullJournal(settings.state_dir / "pulls.json", log),
            open_files=self._open_files,
            aliases=aliases,
            clock=clock,
            wait_ready=self._wait_ready,
            concurrency=settings.pulls,
            after_change=self._catalogue.invalidate,
            limits=PullLimits(stall_s=settings.pull_stall_s),
        )
        engine.before_terminate(self._pulls.pause)
        repairing = Repairing(
            self._store,
            pulls=self._pulls,
            residency=self._residency,
            registry=self._registry,
            aliases=aliases,
        )
        self._checks = CheckJobs(self._store, repairing, clock=clock)
        self.healing = Healing(
            settings,
            Patient(engine, engine_log, self._residency, self._catalogue, self._store, self.sampler),
            Surroundings(
                environ=environ,
                marker=marker,
                is_owned=reaper.is_owned,
                leave=leave,
                load_options=plan.load_options,
                cpu_wish=plan.cpu_wish,
            ),
            clock=clock,
            log=log,
        )
        self._api = build_resources(
            settings,
            engine,
            engine_log=engine_log,
            catalogue=self._catalogue,
            residency=self._residency,
            pulls=self._pulls,
            checks=self._checks,
            healing=self.healing,
            client=self._client,
            sampler=self.sampler,
            clock=clock,
            daemon_log=log,
            store=self._store,
            load_options=plan.load_options,
            cpu_wish=plan.cpu_wish,
        )
        self._doorway = doorway

    async def serve(self) -> None:
        """Take up the pulls of the last life, and answer all that is asked at the doorway."""
        await self.healing.restore()
        await self._pulls.restore()
        self._doorway.hand_over(self._api)

    async def close(self) -> None:
        """End the pulls, so that their callers hear why; let all callers go, and hang up on the engine."""
        await self.healing.close()
        await self._checks.close()
        await self._pulls.close()
        await self._doorway.close()
        for part in (self._residency, self._catalogue, self._registry, self._client):
            await part.close()
        self._store.close()
        await self._runner_look.settle(timeout_s=0)

    async def _wait_ready(self) -> None:
        await self._engine.wait_until(lambda seen: seen.is_answering)

    def _open_files(self, folder: Path) -> frozenset[str]:
        """What the engine has open below it."""
        return open_files(self._engine.snapshot.pid, folder)

    async def _runner_blobs(self) -> Mapping[int, str]:
        """The runners that live, see `Residency`; none where `/proc` does not answer."""
        pid = self._engine.snapshot.pid
        if pid is None:
            return {}
        return await self._runner_look.call(lambda: runner_blobs(pid), timeout_s=RUNNER_LOOK_S) or {}
