"""The pulls of the daemon over a bare engine, in the loop of the test."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.client import OllamaClient
from arasul_supervisor.ollama.pulls.jobs import PullJobs
from arasul_supervisor.ollama.pulls.journal import PullJournal
from arasul_supervisor.ollama.pulls.registry import LOOK_S
from arasul_supervisor.ollama.pulls.retry import RetryPolicy
from arasul_supervisor.ollama.pulls.stall import PullLimits
from arasul_supervisor.supervision.open_files import open_files
from tests.api.stubs import StubLog
from tests.engine.registry_looks import looks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from arasul_supervisor.ollama.pulls.job import PullJob
    from tests.engine.real import BareEngine

QUICK = PullLimits(retry=RetryPolicy(base_s=0.05, cap_s=0.2), after_pause_s=0.1)
BLOB = bytes(range(256)) * 4096 * 3  # 3 MiB; no GGUF, but a pull does not look inside
SLOWLY = 1024 * 1024.0  # bytes per second: 3 s for the blob


@dataclass(slots=True)
class Pulls:
    client: OllamaClient
    catalogue: Catalogue
    jobs: PullJobs
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    n_changes: int = 0


@asynccontextmanager
async def pulls_of(
    engine: BareEngine,
    *,
    aliases: Mapping[str, str] | None = None,
    concurrency: int = 2,
    limits: PullLimits = QUICK,
    look_s: float = LOOK_S,
    state: Path = Path("/nonexistent"),
) -> AsyncIterator[Pulls]:
    clock = SystemClock()
    client = OllamaClient(f"http://127.0.0.1:{engine.port}", clock)
    store = StoreReader(engine.store)
    catalogue = Catalogue(client, clock, store=store)

    async def wait_ready() -> None:
        await pulls.ready.wait()

    def note_change() -> None:
        pulls.n_changes += 1

    log = StubLog()
    look = looks(log, timeout_s=look_s)
    jobs = PullJobs(
        client,
        catalogue,
        registry=look,
        store=store,
        open_files=lambda folder: open_files(engine.pid, folder),
        journal=PullJournal(state / "pulls.json", log),
        aliases=Aliases(aliases or {}),
        clock=clock,
        wait_ready=wait_ready,
        concurrency=concurrency,
        after_change=note_change,
        limits=limits,
    )
    pulls = Pulls(client, catalogue, jobs)
    pulls.ready.set()
    await jobs.restore()
    try:
        yield pulls
    finally:
        await jobs.close()
        await look.close()
        store.close()
        await catalogue.close()
        await client.close()


async def watch(job: PullJob) -> AsyncGenerator[Mapping[str, object], None]:
    """The lines of a pull as a client of the API gets them."""
    feed = job.subscribe()
    try:
        async with aclosing(feed.lines()) as lines:
            async for line in lines:
                yield line
    finally:
        job.unsubscribe(feed)


async def lines_of(pulls: Pulls, job: PullJob) -> list[Mapping[str, object]]:
    return [line async for line in watch(job)]


async def first_bytes(pulls: Pulls, job: PullJob) -> None:
    """Returns when the job has shown some bytes."""
    async with asyncio_timeout(20):
        async for line in watch(job):
            if line.get("completed"):
                return


@asynccontextmanager
async def asyncio_timeout(limit_s: float) -> AsyncIterator[None]:
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(limit_s, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


def empty_notes(store: Path) -> None:
    """What a SIGTERM in the middle of a pull can leave: no note says anything any more."""
    notes = list((store / "blobs").glob("*-partial-*"))
    assert notes
    for note in notes:
        note.write_bytes(b"")
