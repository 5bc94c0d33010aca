"""Guards CONTRACT §4 `/api/stats` and `/api/stats/history` on real processes: an engine with two runners, each with its
model, its load and its share of memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.telemetry import sampler as sampler_module
from arasul_supervisor.telemetry.host import read_host
from arasul_supervisor.telemetry.sampler import Sampler
from tests.engine.store import blob_path, install_model
from tests.engine.telemetry_ground import Diary, Pids, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from arasul_supervisor.telemetry.history import Sample
    from arasul_supervisor.telemetry.host import HostSample
    from tests.engine.store import ModelFiles

PERIOD_S = 0.1
IDLE = "import time; print('up', flush=True); time.sleep(60)"
BUSY = "print('up', flush=True)\nwhile True: pass"
# The second runner is that of the older generation: the same program as the engine, with a word before `--model`.
ENGINE = """
import subprocess, sys
idle, busy, one, other = sys.argv[1:]
runners = [
    subprocess.Popen([sys.executable, "-c", idle, "--model", one, "--port", "1"], stdout=subprocess.PIPE),
    subprocess.Popen([sys.executable, "-c", busy, "runner", "--model", other], stdout=subprocess.PIPE),
]
for runner in runners:
    runner.stdout.readline()
print(*(runner.pid for runner in runners), flush=True)
sys.stdin.read()
for runner in runners:
    runner.kill()
    runner.wait()
"""


@dataclass(frozen=True)
class NoGpuSettings:
    """This box as it is, without a GPU."""

    sysroot: Path = Path("/")
    gpu: str = "none"
    jtop: bool = False


@contextmanager
def engine_with_runners(one: Path, other: Path) -> Iterator[tuple[int, list[int]]]:
    """The engine's pid and its runners', of which the second is busy."""
    command = [sys.executable, "-c", ENGINE, IDLE, BUSY, str(one), str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        try:
            yield engine.pid, [int(word) for word in engine.stdout.readline().split()]
        finally:
            engine.communicate(timeout=10)


async def test_each_runner_is_told_with_its_model_its_load_and_its_memory(
    tmp_path: Path, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    store, clock = tiny_model_store, SystemClock()
    digest = install_model(store, "mike/copy:v1", model_files())
    unknown = blob_path(store, "sha256:" + "0" * 64)
    with engine_with_runners(blob_path(store, digest), unknown) as (pid, (idle, busy)):
        sampler = Sampler(
            NoGpuSettings(),
            clock,
            lambda: pid,
            log=Diary(),
            own=Pids().own,
            disown=Pids().disown,
            store=store,
            period_s=PERIOD_S,
        )

        def engine() -> Any:  # Any: JSON
            stats: Any = sampler.stats(clock.mono())
            return stats["engine"]

        async with running(sampler):
            await until(lambda: engine()["runners"] and engine()["runners"][0]["model"], limit_s=10)
            await until(
                lambda: any((one["cpu_percent"] or 0) > 10 for one in engine()["runners"]), limit_s=10
            )
            await until(lambda: len(sampler.history.last(900.0, now_mono=clock.mono())) >= 2)
            found = engine()
            stats: Any = sampler.stats(clock.mono())
            samples = sampler.history.last(900.0, now_mono=clock.mono())

    first, second = sorted(found["runners"], key=lambda runner: runner["pid"] != idle)
    assert (first["pid"], first["model"], first["models"]) == (
        idle,
        "mike/copy:v1",
        ["mike/copy:v1", "tiny:latest"],
    )
    assert first["model_blob"] == digest
    assert (second["pid"], second["model"], second["model_blob"]) == (busy, None, "sha256:" + "0" * 64)
    assert second["cpu_percent"] > 10 > first["cpu_percent"]
    assert found["cpu_percent"] >= second["cpu_percent"]
    assert (found["processes"], found["threads"]) == (3, 3)
    assert 0 < first["pss_bytes"] <= first["rss_bytes"] < found["rss_bytes"]
    assert first["open_fds"] >= 3
    assert first["gpu_memory_bytes"] is None
    assert stats["daemon"]["threads"] >= 1
    assert stats["host"]["store"]["folder"] == str(store)
    assert 0 < stats["host"]["store"]["free_bytes"] < stats["host"]["store"]["total_bytes"]
    assert stats["host"]["cpu"]["cpus"] >= 1
    assert len(samples) >= 2
    assert samples[-1].memory_used_percent is not None
    assert samples[-1].gpu_utilization is None


async def test_a_look_that_hangs_leaves_a_sample_without_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    may_hang, may_go_on = threading.Event(), threading.Event()

    def read(root: Path) -> HostSample:
        if may_hang.is_set():
            may_go_on.wait(10)
        return read_host(root)

    monkeypatch.setattr(sampler_module, "read_host", read)
    monkeypatch.setattr(sampler_module, "_READ_LIMIT_S", 0.05)
    clock = SystemClock()
    sampler = Sampler(
        NoGpuSettings(),
        clock,
        lambda: None,
        log=Diary(),
        own=Pids().own,
        disown=Pids().disown,
        period_s=PERIOD_S,
    )

    def newest() -> Sample | None:
        samples = sampler.history.last(900.0, now_mono=clock.mono())
        return samples[-1] if samples else None

    async with running(sampler):
        await until(lambda: (one := newest()) and one.memory_used_percent is not None)
        may_hang.set()
        await until(lambda: (one := newest()) and one.memory_used_percent is None)
        stats: Any = sampler.stats(clock.mono())
        may_go_on.set()
        await until(lambda: (one := newest()) and one.memory_used_percent is not None)

    assert stats["host"]["memory"]["used_percent"] is not None  # of the look before, with its age
    assert stats["host"]["age_s"] > 0
