"""Stand-ins for the parts that the API is given, for tests that want one port and no daemon around it."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arasul_supervisor.api.compose import build_resources
from arasul_supervisor.api.server import open_port
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.healing.aftermath.own_loads import OwnLoads
from arasul_supervisor.healing.aftermath.quarantine import Quarantine
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import IncidentStore
from arasul_supervisor.logs.ring import LogPage
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.checks.jobs import CheckJobs
from arasul_supervisor.ollama.checks.repairing import Repairing
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.pulls.journal import PullJournal
from arasul_supervisor.ollama.residency import Residency
from arasul_supervisor.settings import load_settings
from arasul_supervisor.supervision.runners import runner_blobs
from arasul_supervisor.supervision.snapshot import Snapshot, State, Wanted
from arasul_supervisor.telemetry.gpu_check import GpuCheck
from arasul_supervisor.telemetry.history import History
from tests.api.raw import eventually
from tests.engine.registry_looks import looks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from arasul_supervisor.logs.meaning.finding import Finding

UP = Snapshot(
    state=State.RUNNING,
    wanted=Wanted.UP,
    generation=0,  # none that is new, so that nothing is asked in the background
    pid=None,
    started_mono=1.0,
    started_at=1.7e9,
    ready_mono=2.0,
    ready_at=1.7e9,
    answered_mono=2.0,
    engine_version="0.34.4",
)


class StubEngine:
    """An engine that is whatever the test says; what is asked of it is noted."""

    def __init__(self, snapshot: Snapshot = UP) -> None:
        self.snapshot = snapshot
        self.asked: list[str] = []
        self.runners_killed = 0
        self._subscribers: list[Callable[[Snapshot], None]] = []

    def become(self, **changes: Any) -> None:  # Any: fields of the snapshot
        """Publish a changed snapshot."""
        self.snapshot = replace(self.snapshot, **changes)
        for callback in list(self._subscribers):
            callback(self.snapshot)

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def ask_start(self) -> None:
        self.asked.append("start")

    def ask_stop(self) -> None:
        self.asked.append("stop")

    def ask_restart(self) -> None:
        self.asked.append("restart")

    async def start(self) -> Snapshot:
        self.asked.append("start")
        return await self.wait_until(lambda seen: seen.state in (State.RUNNING, State.FATAL))

    async def stop(self) -> Snapshot:
        self.asked.append("stop")
        return await self.wait_until(lambda seen: seen.state in (State.STOPPED, State.FATAL))

    async def restart(self) -> Snapshot:
        self.asked.append("restart")
        return await self.start()

    async def wait_until(self, predicate: Callable[[Snapshot], bool]) -> Snapshot:
        await eventually(lambda: predicate(self.snapshot), limit_s=60)
        return self.snapshot

    async def kill_runners(self) -> int:
        self.asked.append("kill_runners")
        return self.runners_killed

    async def runner_blobs(self) -> Mapping[int, str]:
        """Of the real tree, where the test gave the pid of one."""
        pid = self.snapshot.pid
        return await asyncio.to_thread(runner_blobs, pid) if pid is not None else {}


@dataclass
class StubEngineLog:
    """A log without lines, with the findings that the test gives it."""

    found: tuple[Finding, ...] = ()
    seen_marks: frozenset[str] = frozenset()
    asked: list[Mapping[str, object]] = field(default_factory=list)

    def findings(self, generation: int) -> tuple[Finding, ...]:
        return self.found

    def troubles(self) -> tuple[Finding, ...]:
        return ()

    def marks(self, generation: int) -> frozenset[str]:
        return self.seen_marks

    def lines(self, count: int, **filters: object) -> LogPage:
        self.asked.append({"count": count, **filters})
        return LogPage((), 0, 0)


PARTS = {"platform": {"kind": "cpu"}, "engine": {"pid": None, "runners": None}}


class StubSampler:
    """A box without a GPU, with room on its disk."""

    store_disk = None

    def __init__(self) -> None:
        self.history = History(period_s=5.0)

    def stats(self, now_mono: float) -> Mapping[str, object]:
        flat = ("gpu_utilization", "gpu_memory", "gpu_temperature", "cpu_percent", "process_memory_mb")
        return {**dict.fromkeys(flat), "timestamp": time.time(), **PARTS}

    def gpu_check(self) -> GpuCheck:
        return GpuCheck("skipped", "This box has no GPU.", None)

    async def refresh(self, *, timeout_s: float) -> None:
        """Nothing answers here."""

    def free_bytes(self) -> int | None:
        return None


class StubAskedCures:
    """Does what a caller asks for, with nothing sick and nothing forbidden but what the test says."""

    def __init__(self, engine: StubEngine) -> None:
        self._engine = engine
        self.sick: tuple[str, ...] = ()
        self.refusal: str | None = None
        self.leaves_with: str | None = None
        self.wishes: list[tuple[str, str]] = []

    def stop_restoring(self, wish: str) -> None:
        self.wishes.append(("stop_restoring", wish))

    async def end_sick_runners(self, wish: str) -> tuple[str, ...]:
        self.wishes.append(("end_sick_runners", wish))
        if self.sick:
            self._engine.asked.append("end_sick_runners")
        return self.sick

    async def end_all_runners(self, wish: str, why: str) -> int:
        return await self._engine.kill_runners()

    def ask_restart(self, wish: str, why: str) -> str | None:
        if self.refusal is None:
            self._engine.ask_restart()
        self.wishes.append(("ask_restart", wish))
        return self.refusal

    def leave_for_the_gpu(self, wish: str) -> str | None:
        return self.leaves_with


@dataclass(frozen=True, slots=True)
class StubHealing:
    """What the API is given of the room of healing."""

    asked: StubAskedCures
    incidents: IncidentBook
    quarantine: Quarantine
    own_loads: OwnLoads = field(default_factory=OwnLoads)


@dataclass
class StubLog:
    """Notes what the daemon would log."""

    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def debug(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    info = warning = error = debug


@dataclass
class ApiUnderTest:
    """One port that answers, and what stands behind it."""

    port: int
    engine: StubEngine
    engine_log: StubEngineLog
    log: StubLog
    catalogue: Catalogue
    pulls: PullJobs
    sampler: StubSampler
    healing: StubHealing


@asynccontextmanager
async def api_under_test(
    engine_port: int,
    *,
    env: Mapping[str, str] | None = None,
    state: Path | None = None,
    store: Path | None = None,
    snapshot: Snapshot = UP,
) -> AsyncIterator[ApiUnderTest]:
    """The whole management port in this loop, over an engine at the given port."""
    environ = {"OLLAMA_HOST": f"127.0.0.1:{engine_port}", "HOME": "/nonexistent", **(env or {})}
    settings = await asyncio.to_thread(load_settings, environ)  # it looks at files
    clock, engine, engine_log, log = SystemClock(), StubEngine(snapshot), StubEngineLog(), StubLog()
    client = OllamaClient(settings.engine_url, clock)
    reader, registry, aliases = StoreReader(store), looks(log), Aliases({})
    catalogue = Catalogue(client, clock, store=reader)
    residency = Residency(
        client,
        clock,
        end_runners=engine.kill_runners,
        runner_blobs=engine.runner_blobs,
        catalogue=catalogue,
        keep_alive_s=settings.keep_alive_s,
    )

    async def ready() -> None:
        await engine.wait_until(lambda seen: seen.is_answering)

    pulls = PullJobs(
        client,
        catalogue,
        registry=registry,
        store=reader,
        open_files=lambda _folder: frozenset(),
        journal=PullJournal((state or Path("/nonexistent")) / "pulls.json", log),
        aliases=aliases,
        clock=clock,
        wait_ready=ready,
        concurrency=2,
        after_change=catalogue.invalidate,
    )
    repairing = Repairing(reader, pulls=pulls, residency=residency, registry=registry, aliases=aliases)
    checks = CheckJobs(reader, repairing, clock=clock)
    sampler = StubSampler()
    # The stubs have the shape of what they stand for; the real classes have no common protocol.
    parts: dict[str, Any] = {
        "engine_log": engine_log,
        "sampler": sampler,
        "daemon_log": log,
        "load_options": dict,
    }
    healing = StubHealing(
        StubAskedCures(engine),
        IncidentBook(IncidentStore(settings.state_dir / "incidents"), clock=clock, log=log),
        Quarantine(settings.state_dir / "quarantine.json", log),
    )
    api = build_resources(
        settings,
        engine,  # type: ignore[arg-type]  # a stand-in
        healing=healing,  # type: ignore[arg-type]  # a stand-in
        catalogue=catalogue,
        residency=residency,
        pulls=pulls,
        checks=checks,
        client=client,
        clock=clock,
        store=reader,
        **parts,
    )
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await open_port(sock, api.dispatch)
    runner.hand_over(api)
    try:
        yield ApiUnderTest(sock.getsockname()[1], engine, engine_log, log, catalogue, pulls, sampler, healing)
    finally:
        await runner.cleanup()
        await checks.close()
        await pulls.close()
        await residency.close()
        await catalogue.close()
        await registry.close()
        reader.close()
        await client.close()
