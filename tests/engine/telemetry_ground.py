"""What the telemetry's tests stand on: trees that imitate machines, a clock turned by hand, and a sampler that runs."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu.child_source import ChildSource
from arasul_supervisor.telemetry.gpu.kinds import nvml_kind, tegra_kind
from arasul_supervisor.telemetry.sampler import Sampler
from tests.engine.board_trees import BOARDS, lay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook
    from arasul_supervisor.telemetry.gpu.readings import GpuSource
    from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits


@dataclass(slots=True)
class HandClock:
    """Both clocks, moved by the test alone."""

    now: float = 1000.0

    def mono(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_760_000_000.0 + self.now


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """The settings that telemetry reads."""

    sysroot: Path
    gpu: str = "auto"
    jtop: bool = False


@dataclass(slots=True)
class Pids:
    """Stands where the daemon's reaper does: which children are owned now, and which ever were."""

    owned: set[int] = field(default_factory=set)
    ever: list[int] = field(default_factory=list)

    def own(self, pid: int) -> None:
        self.owned.add(pid)
        self.ever.append(pid)

    def disown(self, pid: int) -> None:
        self.owned.remove(pid)


@dataclass(slots=True)
class Diary:
    """An event log that keeps its lines."""

    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def debug(self, event: str, **fields: object) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))

    def events(self, *levels: str) -> list[str]:
        """The names of the events of these levels, oldest first."""
        return [event for level, event, _ in self.lines if level in levels]


def board(name: str, folder: Path) -> Path:
    """The tree of a machine all of whose files can be read, which the test may change; the root to read from."""
    held = lay(BOARDS / name / "tree.txt", folder / "root")
    assert not held, f"{name} has files that answer EAGAIN: use laid_out()"
    return folder / "root"


def sampler_over(
    root: Path,
    clock: HandClock,
    pids: Pids,
    *,
    environ: Mapping[str, str] | None,
    limits: SourceLimits | None = None,
    diary: Diary | None = None,
    period_s: float = 5.0,
    more: tuple[GpuSource, ...] = (),
    memory_book: GpuMemoryBook | None = None,
) -> Sampler:
    """A sampler that asks NVML and the board below `root`, as the daemon's does.

    :param environ: the children's environment: where the NVML stub is found
    :param more: further sources
    """
    log = diary or Diary()
    sources = [
        ChildSource(kind, root, clock, log, own=pids.own, disown=pids.disown, limits=limits, environ=environ)
        for kind in (nvml_kind(), tegra_kind())
    ]
    return Sampler(
        BoardSettings(root),
        clock,
        os.getpid,
        log=log,
        own=pids.own,
        disown=pids.disown,
        sources=(*sources, *more),
        memory_book=memory_book,
        period_s=period_s,
    )


@asynccontextmanager
async def running(sampler: Sampler) -> AsyncIterator[asyncio.Task[None]]:
    """Run it for the length of the block; it must end within a second."""
    task = asyncio.create_task(sampler.run())
    try:
        yield task
    finally:
        asked_mono = time.monotonic()
        task.cancel()
        await asyncio.wait((task,), timeout=5)
        took_s = time.monotonic() - asked_mono
        assert task.done() and took_s < 1.0, f"telemetry took {took_s:.2f} s to end"


async def until(is_so: Callable[[], object], *, limit_s: float = 5.0) -> None:
    """Wait for something that no event tells us of; fails after `limit_s`."""
    end_mono = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_mono, f"not so within {limit_s:g} s"
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """True while there is such a process, dead but unreaped ones included."""
    return os.path.exists(f"/proc/{pid}")
