"""A machine with one card whose library the test commands, and a sampler that runs over it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from tests.engine.board_trees import answers
from tests.engine.nvml_stub import NvmlStub, build_nvml_stub
from tests.engine.telemetry_ground import Diary, HandClock, Pids, board, is_alive, running, sampler_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arasul_supervisor.telemetry.sampler import Sampler

CARD = "x86-one-gpu"
NAME = "NVIDIA H100 80GB HBM3"
LIMITS = SourceLimits(
    period_s=0.05, sample_s=0.4, init_s=1.0, kill_s=0.5, look_again_s=0.1, look_rarely_s=60.0, keep_s=15.0
)


@dataclass(frozen=True, slots=True)
class Box:
    """A machine with one card, whose library the test commands."""

    root: Path
    stub: NvmlStub
    clock: HandClock
    pids: Pids
    diary: Diary
    sampler: Sampler

    @property
    def stats(self) -> Any:  # Any: JSON
        return self.sampler.stats(self.clock.now)

    def source(self, name: str) -> Any:  # Any: JSON
        return next(source for source in self.stats["gpu_sources"] if source["source"] == name)

    @property
    def gpu(self) -> Any:  # Any: JSON
        gpus = self.stats["gpus"]
        return gpus[0] if gpus else None

    @property
    def state(self) -> str | None:
        return self.gpu["state"] if self.gpu else None

    @property
    def check(self) -> str:
        return self.sampler.gpu_check().status

    def answer(self, fault: str = "") -> None:
        self.stub.answer(answers(CARD, fault=fault) or "")


@asynccontextmanager
async def box(
    folder: Path, *, fault: str = "", defines: tuple[str, ...] = (), limits: SourceLimits = LIMITS
) -> AsyncIterator[Box]:
    root, clock, pids, diary = board(CARD, folder), HandClock(), Pids(), Diary()
    stub = build_nvml_stub(folder, *defines)
    stub.answer(answers(CARD, fault=fault) or "")
    sampler = sampler_over(root, clock, pids, environ=stub.environ, limits=limits, diary=diary)
    async with running(sampler):
        yield Box(root, stub, clock, pids, diary, sampler)
    assert (pids.owned, "telemetry_failed" in diary.events("error")) == (set(), False)
    left = [pid for pid in pids.ever if is_alive(pid)]
    assert not left, f"left alive: {left}"
