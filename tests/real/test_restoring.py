"""Guards ARASUL_RESTORE on the real engine: what lay in memory at a crash lies there again, and nothing else does."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.healing.aftermath.loaded_at_death import PINNED_OVER_S, LoadedBook
from arasul_supervisor.healing.aftermath.restore_source import Source, loads_as_it_was
from arasul_supervisor.healing.aftermath.restoring import RestoreReport, Restoring
from arasul_supervisor.healing.looking.witnesses import EngineLook, Look, ModelsLook, RunnerLook, told
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.residency import Residency
from arasul_supervisor.supervision.child import Launch
from arasul_supervisor.supervision.engine import Engine
from arasul_supervisor.supervision.init import Reaper, become_subreaper
from arasul_supervisor.supervision.process_looks import ProcessLook
from arasul_supervisor.supervision.restart_policy import RestartPolicy
from arasul_supervisor.supervision.runners import runner_blobs
from arasul_supervisor.supervision.snapshot import Snapshot, State
from arasul_supervisor.supervision.strays import MARKER_VARIABLE
from arasul_supervisor.supervision.wiring import EngineLimits, EngineWiring
from tests.engine.processes import pick_free_port
from tests.engine.store import install_model
from tests.engine.tiny_gguf import OTHER, SMALLEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.engine.daemon import Daemon
    from tests.engine.store import ModelFiles

PR_SET_CHILD_SUBREAPER = 36
MARKER = "0123456789abcdef0123456789abcdef:restoring"
FOR_EVER = -1
LIMIT_S = 60.0


class Quiet:
    """Drops what is logged."""

    def debug(self, event: str, **fields: object) -> None:
        pass

    info = warning = error = debug


@dataclass
class Ground:
    """An engine of ours over a store of three models, looked at, and followed to its ends."""

    engine: Engine
    client: OllamaClient
    residency: Residency
    catalogue: Catalogue
    blobs: dict[str, str]
    book: LoadedBook = field(default_factory=LoadedBook)
    told: asyncio.Queue[RestoreReport] = field(default_factory=asyncio.Queue)
    restoring: Restoring = field(init=False)
    _seen_exit: int = 0

    def __post_init__(self) -> None:
        source = Source(
            load=loads_as_it_was(self.residency, dict),
            loaded=lambda: self.residency.loaded(timeout_s=5),
            is_installed=self._is_installed,
            mark=self._mark,
        )
        self.restoring = Restoring(
            self.engine,
            source,
            reason_against=lambda _name: None,
            is_memory_low=lambda: False,
            told=self.told.put_nowait,
            clock=SystemClock(),
            log=Quiet(),
        )
        self.engine.subscribe(self._follow)

    def _follow(self, seen: Snapshot) -> None:
        report = seen.last_exit
        if report is None or report.generation <= self._seen_exit:
            return
        self._seen_exit = report.generation
        if not report.was_asked:
            found = self.book.at_death(report.generation, died_mono=time.monotonic())
            self.restoring.begin(found.loaded, died_generation=report.generation)

    async def _is_installed(self, name: str) -> bool:
        self.catalogue.invalidate()
        return (await self.catalogue.models(timeout_s=5)).model(name) is not None

    async def _mark(self) -> object:
        return 0

    async def look(self) -> None:
        """One look, that the book is told; then the quarter of a second in which a death would discredit it."""
        pid = self.engine.snapshot.pid
        assert pid is not None
        loaded = await self.residency.loaded(timeout_s=5)
        living = await asyncio.to_thread(runner_blobs, pid)
        mono, names = time.monotonic(), [model.name for model in loaded]
        self.book.see(
            Look(
                mono,
                time.time(),
                EngineLook(self.engine.snapshot.generation, None, 0, 1.0, is_llama_server=True),
                told(
                    tuple(
                        RunnerLook(ProcessLook((runner, 1), "S", 0, 0, 0, False), None, blob)
                        for runner, blob in living.items()
                    ),
                    mono,
                ),
                told(
                    ModelsLook(
                        loaded,
                        {model.name: left_s(model.expires_at) for model in loaded},
                        {name: frozenset({self.blobs[name]}) for name in names},
                    ),
                    mono,
                ),
            )
        )
        await asyncio.sleep(0.3)

    async def crash(self) -> None:
        """SIGKILL of the engine."""
        pid = self.engine.snapshot.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def report(self) -> RestoreReport:
        return await asyncio.wait_for(self.told.get(), LIMIT_S)

    async def in_memory(self) -> dict[str, bool]:
        """The loaded models; whether each stays for ever."""
        loaded = await self.residency.loaded(timeout_s=5)
        return {model.name: left_s(model.expires_at) > PINNED_OVER_S for model in loaded}


def left_s(expires_at: str) -> float:
    """Seconds from now until `2026-11-23T14:12:40.931971924Z`."""
    at = datetime.strptime(expires_at[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return at.timestamp() - time.time()


@asynccontextmanager
async def ground_on(binary: Path, folder: Path, files: ModelFiles) -> AsyncIterator[Ground]:
    store, port, loop, reaper = folder / "store", pick_free_port(), asyncio.get_running_loop(), Reaper()
    shapes = {"one:latest": files(), "two:latest": files(OTHER), "three:latest": files(SMALLEST)}
    blobs = {name: install_model(store, name, path) for name, path in shapes.items()}
    environment = {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_NO_CLOUD": "1",
        "TZ": "UTC",
        MARKER_VARIABLE: MARKER,
    }
    become_subreaper()  # and no longer at the end: orphans of later tests are not this process's
    reaper.install(loop)
    clock = SystemClock()
    engine = Engine(
        EngineWiring(
            lambda n: Launch((str(binary), "serve"), environment, folder / f"spool-{n}"),
            lambda _lines: None,
            lambda _generation: (),
            lambda _code: None,
            lambda _generation, _ended: None,
        ),
        EngineLimits("127.0.0.1", port, startup_s=30, stop_s=5, grace_s=300),
        RestartPolicy(stable_s=0),
        marker=MARKER,
        reaper=reaper,
        clock=clock,
        log=Quiet(),
    )
    client = OllamaClient(f"http://127.0.0.1:{port}", clock)
    catalogue = Catalogue(client, clock)
    residency = Residency(
        client, clock, end_runners=engine.kill_runners, catalogue=catalogue, keep_alive_s=300
    )
    owner = loop.create_task(engine.run())
    ground = Ground(engine, client, residency, catalogue, blobs)
    try:
        await asyncio.wait_for(engine.wait_until(lambda seen: seen.is_answering), LIMIT_S)
        yield ground
    finally:
        await ground.restoring.close()
        for part in (residency, catalogue, client):
            await part.close()
        await asyncio.wait_for(engine.shut_down(), 20)
        owner.cancel()
        await asyncio.gather(owner, return_exceptions=True)
        reaper.uninstall(loop)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


async def test_what_lay_in_memory_at_a_crash_lies_there_again_the_pinned_one_pinned(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={}, keep_alive_s=FOR_EVER)
        await ground.residency.load("two", options={"num_ctx": 1024})
        await ground.look()

        await ground.crash()
        report = await ground.report()

        assert set(report.restored) == {"one:latest", "two:latest"}
        assert await ground.in_memory() == {"one:latest": True, "two:latest": False}


async def test_a_model_comes_back_with_its_context_so_that_its_next_caller_need_not_load_it(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={"num_ctx": 1024})
        await ground.look()
        await ground.crash()
        await ground.report()
        pid = ground.engine.snapshot.pid
        assert pid is not None
        before = await asyncio.to_thread(runner_blobs, pid)

        await ground.residency.load("one", options={"num_ctx": 1024})

        assert await asyncio.to_thread(runner_blobs, pid) == before


async def test_a_model_that_had_been_unloaded_stays_away(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={})
        await ground.residency.load("two", options={})
        await ground.look()
        await ground.residency.unload("one", bound_s=10)
        await ground.look()

        await ground.crash()
        await ground.report()

        assert await ground.in_memory() == {"two:latest": False}


async def test_a_model_that_was_deleted_meanwhile_is_skipped(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={})
        await ground.residency.load("three", options={})
        await ground.look()
        await ground.client.delete("one", timeout_s=10)

        await ground.crash()
        report = await ground.report()

        assert report.skipped == {"one:latest": "it is not installed any more"}
        assert report.restored == ("three:latest",)


async def test_a_restart_by_an_operator_restores_nothing(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={})
        await ground.look()

        await asyncio.wait_for(ground.engine.restart(), LIMIT_S)

        assert ground.engine.snapshot.state is State.RUNNING
        assert not ground.restoring.is_running
        assert await ground.in_memory() == {}


async def test_a_second_crash_while_they_come_back_loses_none(
    engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    async with ground_on(engine_binary, tmp_path, model_files) as ground:
        await ground.residency.load("one", options={})
        await ground.residency.load("two", options={}, keep_alive_s=FOR_EVER)
        await ground.look()
        await ground.crash()
        died = ground.engine.snapshot.generation
        await ground.engine.wait_until(lambda seen: seen.generation > died and seen.is_answering)

        await ground.crash()
        reports = [await ground.report(), await ground.report()]

        assert [set(report.restored) for report in reports] == [set(), {"one:latest", "two:latest"}]
        assert await ground.in_memory() == {"one:latest": False, "two:latest": True}


def test_a_daemon_loads_again_what_its_engine_had_without_being_asked(
    real_daemon: Callable[[Mapping[str, str | None]], Daemon],
) -> None:
    daemon = real_daemon({})
    daemon.engine("POST", "/api/generate", {"model": "tiny", "keep_alive": FOR_EVER, "stream": False})
    time.sleep(5)  # two looks of the healer, which tell nobody

    os.kill(daemon.process()["pid"], signal.SIGKILL)

    daemon.wait_for(
        lambda: (
            [
                left_s(model["expires_at"]) > PINNED_OVER_S
                for model in daemon.engine("GET", "/api/ps").json()["models"]
            ]
            == [True]
            and daemon.process()["restarts"] == 1
        ),
        what="the pinned model is loaded again",
        limit_s=20,
    )
