"""What the tests of jetson-stats stand on: its fake service at the place of the real one, and our source beside it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.telemetry.gpu.child_source import ChildSource
from arasul_supervisor.telemetry.gpu.kinds import JTOP_SOCKET, Kind, jtop_kind
from arasul_supervisor.telemetry.gpu.readings import GpuReading, SourceReport
from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from arasul_supervisor.telemetry.gpu_view import GpuView, view_gpus
from tests.engine.board_trees import BOARDS
from tests.engine.telemetry_ground import Diary, Pids, is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

PAYLOAD: Final = BOARDS / "jetson-agx-orin-jp6" / "jtop-busy.json"
LIMITS: Final = SourceLimits(
    period_s=0.1, sample_s=1.0, init_s=10.0, kill_s=0.5, look_again_s=0.2, look_rarely_s=60.0, keep_s=15.0
)
STALE_AFTER_S: Final = 1.0  # as the daemon's 15 s to its period of 5 s, but for a busy machine


@dataclass(slots=True)
class Service:
    """A fake service at the place of the real one, in a root of its own: a socket's path must be short."""

    root: Path
    process: subprocess.Popen[str] | None = None

    @property
    def socket(self) -> Path:
        return self.root / JTOP_SOCKET

    def start(self, mode: str = "normal") -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "tests.engine.fake_jtop", "--mode", mode]
        command += ["--socket", str(self.socket), "--payload", str(PAYLOAD)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def signal(self, which: int) -> None:
        """Freeze it, thaw it, or let its sampler die (SIGUSR1)."""
        assert self.process is not None
        self.process.send_signal(which)

    def kill(self) -> None:
        """SIGKILL: its socket stays behind."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it removes its socket."""
        self._end(signal.SIGTERM)

    def _end(self, which: int) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(which)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(5)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def service() -> Iterator[Service]:
    """Not started yet."""
    with tempfile.TemporaryDirectory(prefix="jtop-") as folder:
        service = Service(Path(folder))
        service.socket.parent.mkdir()
        yield service
        service.stop()


@dataclass(slots=True)
class Box:
    """The daemon's side of it: the source that keeps the child, and what it tells."""

    source: ChildSource
    pids: Pids = field(default_factory=Pids)
    diary: Diary = field(default_factory=Diary)

    @property
    def report(self) -> SourceReport:
        return self.source.report()

    @property
    def view(self) -> GpuView:
        """The figures as they may be shown at this instant, beside sysfs, which knows of the GPU and no figure."""
        now_mono = time.monotonic()
        node = GpuReading(0, source="sysfs", node="17000000.gpu", has_load_file=True)
        by_sysfs = SourceReport("tegra", "ok", "", now_mono, taken_mono=now_mono, readings=(node,))
        return view_gpus([by_sysfs, self.report], now_mono=now_mono, stale_after_s=STALE_AFTER_S)

    @property
    def shown(self) -> GpuReading | None:
        """What jtop has to say of the GPU, as it may be shown at this instant."""
        (card,) = self.view.cards
        return card.readings.get("jtop")

    @property
    def has_figures(self) -> bool:
        shown = self.shown
        return shown is not None and shown.utilization_percent == 98.5

    def has_fresh_figures(self, *, since_mono: float) -> bool:
        taken_mono = self.report.taken_mono
        return self.has_figures and taken_mono is not None and taken_mono > since_mono


@asynccontextmanager
async def box(
    service: Service,
    *,
    limits: SourceLimits = LIMITS,
    kind: Kind | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Box]:
    """A source that runs for the length of the block; it must end within a second and leave no child."""
    pids, diary = Pids(), Diary()
    source = ChildSource(
        kind or jtop_kind(),
        service.root,
        SystemClock(),
        diary,
        own=pids.own,
        disown=pids.disown,
        limits=limits,
        environ=environ,
    )
    task = asyncio.create_task(source.run())
    try:
        yield Box(source, pids, diary)
    finally:
        asked_mono = time.monotonic()
        task.cancel()
        await asyncio.wait((task,), timeout=5)
        took_s = time.monotonic() - asked_mono
        assert task.done() and took_s < 1.0, f"the source took {took_s:.2f} s to end"
        assert not pids.owned
        assert not any(is_alive(pid) for pid in pids.ever)
