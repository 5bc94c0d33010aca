"""Guards CONTRACT §2 `OLLAMA_GPU_MEMORY_FRACTION`: GPU memory is known before the first spawn, or given up in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.gpu.launch import Spawned
from arasul_supervisor.telemetry.gpu.probe import GpuMemory, probe_gpu_memory
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.telemetry_ground import BoardSettings, answers, board

if TYPE_CHECKING:
    from pathlib import Path


def test_each_card_tells_its_total_and_its_free_memory(tmp_path: Path) -> None:
    root, stub = board("x86-two-gpus-mig", tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers("x86-two-gpus-mig"))

    found = probe_gpu_memory(BoardSettings(root), environ=stub.environ)

    assert found == (GpuMemory(24146608128, 3004170240), GpuMemory(85899345920, 59876835328))


def test_a_card_that_shares_the_hosts_memory_tells_the_hosts(tmp_path: Path) -> None:
    root, stub = board("x86-one-gpu", tmp_path), build_nvml_stub(tmp_path)
    stub.answer("driver = 580.95\ncount = 1\ngpu0.name = NVIDIA GB10\ngpu0.utilization = 0 0\n")

    found = probe_gpu_memory(BoardSettings(root), environ=stub.environ)

    assert found == (GpuMemory(270188969984, 246960619520),)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("cpu-only", "auto"), ("x86-one-gpu", "none")],
    ids=["no sign of a driver", "switched off"],
)
def test_a_box_without_a_gpu_costs_no_child(name: str, gpu: str, tmp_path: Path) -> None:
    root = board(name, tmp_path)
    began = time.perf_counter()

    found = probe_gpu_memory(BoardSettings(root, gpu))

    assert found == ()
    assert time.perf_counter() - began < 0.01


@pytest.mark.parametrize("fault", ["driver-not-loaded-9", "gpu-lost-15", "no-permission-4", "no-gpus"])
def test_a_card_that_does_not_tell_is_left_out(fault: str, tmp_path: Path) -> None:
    root, stub = board("x86-one-gpu", tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu", fault))

    assert probe_gpu_memory(BoardSettings(root), environ=stub.environ) == ()


def test_a_missing_library_is_no_gpu(tmp_path: Path) -> None:
    root, stub = board("x86-one-gpu", tmp_path), build_nvml_stub(tmp_path)
    stub.library.write_text("not a library")

    assert probe_gpu_memory(BoardSettings(root, "nvml"), environ=stub.environ) == ()


def test_a_driver_that_hangs_is_given_up_in_time_and_its_child_is_reaped(tmp_path: Path) -> None:
    root, stub = board("x86-one-gpu", tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu", "hang-at-init"))
    began = time.perf_counter()

    found = probe_gpu_memory(BoardSettings(root), timeout_s=0.3, environ=stub.environ)

    assert found == ()
    assert 0.3 <= time.perf_counter() - began < 1.0


def test_a_child_that_outlives_the_kill_is_left_to_the_reaper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, stub = board("x86-one-gpu", tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu", "hang-at-init"))
    pids: list[int] = []
    monkeypatch.setattr(Spawned, "kill", lambda child: pids.append(child.pid))
    began = time.perf_counter()

    found = probe_gpu_memory(BoardSettings(root), timeout_s=0.3, environ=stub.environ)
    took_s = time.perf_counter() - began
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)

    assert (found, took_s < 1.0) == ((), True)


def test_the_probe_loads_nothing_heavy_into_the_daemon() -> None:
    program = "import sys, arasul_supervisor.telemetry.gpu.probe; print(*sys.modules)"

    loaded = set(
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout.split()
    )

    assert loaded.isdisjoint(
        {"pynvml", "psutil", "asyncio", "aiohttp", "structlog", "msgspec", "ctypes", "subprocess"}
    )
