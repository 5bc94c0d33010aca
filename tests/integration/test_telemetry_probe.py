"""Guards CONTRACT §2 `OLLAMA_GPU_MEMORY_FRACTION`: GPU memory is known before the first spawn, or given up in time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.line_child.spawn import Spawned
from arasul_supervisor.telemetry.gpu import bounded_child
from arasul_supervisor.telemetry.gpu.launch_memory import GpuMemory, LaunchMemory, memory_at_launch
from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook, Idle, idle_since
from arasul_supervisor.telemetry.process_figures import ProcessFigures, TreeFigures
from tests.engine.board_trees import answers, laid_out
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.telemetry_ground import BoardSettings, HandClock, Pids, board, running, sampler_over, until

if TYPE_CHECKING:
    from pathlib import Path


CARD = "x86-one-gpu"
H100 = GpuMemory(85520809984, 64238911488)
UUID = "GPU-11112222-3333-5444-8555-666677778888"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def information(root: Path, *, uuid: str = UUID, model: str = "NVIDIA H100 80GB HBM3") -> None:
    """What the kernel module says of its one card, as it was published."""
    folder = root / "proc/driver/nvidia/gpus/0000:0f:00.0"
    folder.mkdir(parents=True, exist_ok=True)
    text = f"Model: \t\t {model}\nIRQ:   \t\t 195\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n"
    (folder / "information").write_text(text)


def test_each_card_tells_its_total_and_its_free_memory(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    card = "name = A\nuuid = GPU-%d\nmemory_v2 = 1000 10 %d 0\n"
    lines = [f"gpu{index}.{line}" for index in (0, 1) for line in (card % (index, 900 + index)).splitlines()]
    stub.answer("\n".join(["driver = 1", "count = 2", *lines]))

    found = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)

    assert found.gpus == (GpuMemory(1000, 900), GpuMemory(1000, 901))
    assert found.trouble == ""


def test_of_a_card_in_slices_the_smallest_slice_counts(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board("x86-two-gpus-mig", tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers("x86-two-gpus-mig") or "")

    found = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)

    assert found.gpus == (GpuMemory(20937965568, 20937965568 - 15063842816),)


def test_a_card_that_shares_the_hosts_memory_tells_the_hosts(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer("driver = 580.95\ncount = 1\ngpu0.name = NVIDIA GB10\ngpu0.utilization = 0 0\n")

    found = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)

    assert found.gpus == (GpuMemory(270188969984, 246960619520),)


def test_a_jetson_tells_the_hosts_memory_without_a_child(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_child, "spawn_child", None)  # calling it would raise

    with laid_out("jetson-agx-orin-jp6", tmp_path / "root") as root:
        found = memory_at_launch(BoardSettings(root), state_dir)

    assert found.gpus == (GpuMemory(65893392384, 60326674432),)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("cpu-only", "auto"), (CARD, "none"), (CARD, "tegra")],
    ids=["no sign of a driver", "switched off", "only a Jetson is asked for"],
)
def test_a_box_without_a_gpu_costs_no_child(
    name: str, gpu: str, tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = board(name, tmp_path)
    monkeypatch.setattr(bounded_child, "spawn_child", None)  # calling it would raise

    assert memory_at_launch(BoardSettings(root, gpu), state_dir) == LaunchMemory()


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("driver-not-loaded-9", ""),
        ("no-gpus", ""),
        ("gpu-lost-15", "NVML does not tell it"),
        ("no-permission-4", "NVML does not tell it"),
        ("driver-mismatch-18", "NVML refuses with code 18"),
        ("unknown-999", "NVML refuses with code 999"),
    ],
)
def test_a_card_that_does_not_tell_is_left_out_and_said(
    fault: str, trouble: str, tmp_path: Path, state_dir: Path
) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers(CARD, fault=fault) or "")

    found = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)

    assert found.gpus == ()
    assert trouble in found.trouble and bool(found.trouble) is bool(trouble)


def test_a_missing_library_is_no_gpu(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.library.write_text("not a library")

    assert memory_at_launch(BoardSettings(root, "nvml"), state_dir, environ=stub.environ) == LaunchMemory()


def test_a_driver_that_hangs_is_given_up_in_time_and_said(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers(CARD, fault="hang-at-init") or "")
    began = time.perf_counter()

    found = memory_at_launch(BoardSettings(root), state_dir, timeout_s=0.3, environ=stub.environ)

    assert found.gpus == ()
    assert "the driver did not answer within 0.3 s" in found.trouble
    assert 0.3 <= time.perf_counter() - began < 1.5


def test_a_launch_that_is_called_off_does_not_wait_for_the_driver(tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers(CARD, fault="hang-at-init") or "")
    began = time.perf_counter()

    memory_at_launch(
        BoardSettings(root), state_dir, timeout_s=10.0, environ=stub.environ, gives_up=lambda: True
    )

    assert time.perf_counter() - began < 2.0


def test_a_child_that_outlives_the_kill_is_left_to_the_reaper(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers(CARD, fault="hang-at-init") or "")
    pids: list[int] = []
    monkeypatch.setattr(Spawned, "kill", lambda child: pids.append(child.pid))
    began = time.perf_counter()

    found = memory_at_launch(BoardSettings(root), state_dir, timeout_s=0.3, environ=stub.environ)
    took_s = time.perf_counter() - began
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)

    assert (found.gpus, took_s < 1.5) == ((), True)


def test_the_second_launch_on_the_same_card_asks_nobody(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    information(root)
    stub.answer(answers(CARD) or "")
    first = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)
    information(root, uuid="GPU-????????-????-????-????-????????????")  # asleep: persistence mode is off
    monkeypatch.setattr(bounded_child, "spawn_child", None)  # calling it would raise

    second = memory_at_launch(BoardSettings(root), state_dir)

    assert first.gpus == (H100,)
    assert second.gpus == (GpuMemory(H100.total_bytes, H100.total_bytes),)  # what is free is not of yesterday


@pytest.mark.parametrize(
    "change", ["driver", "uuid", "model", "a card more", "a slice more", "garbage", "another shape"]
)
def test_a_note_of_other_cards_is_not_believed(change: str, tmp_path: Path, state_dir: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    information(root)
    stub.answer(answers(CARD) or "")
    memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)
    (note,) = state_dir.iterdir()
    if change == "driver":
        (root / "sys/module/nvidia/version").write_text("999.1\n")
    elif change == "uuid":
        information(root, uuid="GPU-99999999-3333-5444-8555-666677778888")
    elif change == "model":
        information(root, model="NVIDIA A10")
    elif change == "a slice more":
        (root / "proc/driver/nvidia/capabilities/gpu0/mig/gi3").mkdir(parents=True)
    elif change == "a card more":
        (root / "proc/driver/nvidia/gpus/0000:ff:00.0").mkdir()
    else:
        note.write_text("{" if change == "garbage" else '{"format":2,"identity":null,"totals":[]}')
    stub.answer((answers(CARD) or "").replace("64238911488", "7000"))

    found = memory_at_launch(BoardSettings(root), state_dir, environ=stub.environ)

    assert found.gpus == (GpuMemory(H100.total_bytes, 7000),)


def test_a_state_folder_that_cannot_be_written_costs_only_the_note(tmp_path: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    information(root)
    stub.answer(answers(CARD) or "")

    found = memory_at_launch(BoardSettings(root), tmp_path / "nowhere", environ=stub.environ)

    assert found.gpus == (H100,)


IDLE, BUSY = GpuMemory(1000, 900), GpuMemory(1000, 100)


@pytest.mark.parametrize(
    ("launch", "sample", "is_engine_idle", "told"),
    [
        ((IDLE,), (BUSY,), False, (IDLE,)),
        ((BUSY,), (IDLE,), True, (IDLE,)),
        ((), (BUSY,), False, (GpuMemory(1000, 1000),)),
        ((), (IDLE,), True, (IDLE,)),
        ((IDLE,), (), True, (IDLE,)),
    ],
    ids=["models are loaded", "none is", "unknown before, loaded", "unknown before, idle", "nothing new"],
)
def test_the_next_start_is_told_what_is_free_without_models(
    launch: tuple[GpuMemory, ...],
    sample: tuple[GpuMemory, ...],
    is_engine_idle: bool,
    told: tuple[GpuMemory, ...],
    state_dir: Path,
) -> None:
    book = GpuMemoryBook(state_dir, LaunchMemory(launch))

    book.take(sample, is_engine_idle=is_engine_idle)

    assert book.gpus == told


def test_memory_that_others_hold_is_said_once_when_the_launch_did_not_know_of_it(state_dir: Path) -> None:
    book = GpuMemoryBook(state_dir, LaunchMemory((GpuMemory(10 << 30, 10 << 30),)))
    samples = [(GpuMemory(10 << 30, gib << 30),) for gib in (4, 4, 2)]

    told = [book.take(sample, is_engine_idle=True) for sample in samples]

    assert "Other programs hold 6144 MiB" in told[0]
    assert told[1:] == ["", ""]
    assert GpuMemoryBook(state_dir, LaunchMemory(samples[0])).take(samples[0], is_engine_idle=True) == ""


def tree(pid: int, n_members: int) -> TreeFigures:
    members = (ProcessFigures(pid + index, 0, 0, 0, 1, None) for index in range(n_members))
    return TreeFigures(tuple(members))


@pytest.mark.parametrize(
    ("before", "engine", "since_mono"),
    [
        (None, tree(7, 1), 200.0),
        (Idle(7, 100.0), tree(7, 1), 100.0),
        (Idle(7, 100.0), tree(7, 2), None),
        (Idle(7, 100.0), tree(8, 1), 200.0),
        (Idle(7, 100.0), None, 200.0),
        (Idle(None, 100.0), None, 100.0),
    ],
    ids=["first seen", "still", "a model is loaded", "another engine", "the engine is gone", "no engine yet"],
)
def test_figures_of_an_idle_engine_are_those_of_this_engine(
    before: Idle | None, engine: TreeFigures | None, since_mono: float | None
) -> None:
    now = idle_since(before, engine, 200.0)

    assert (now.since_mono if now else None) == since_mono


def test_a_limit_that_the_launch_could_not_know_comes_with_the_samples(
    tmp_path: Path, state_dir: Path
) -> None:
    root, stub, clock, pids = board(CARD, tmp_path), build_nvml_stub(tmp_path), HandClock(), Pids()
    information(root)
    stub.answer(answers(CARD, fault="hang-at-init") or "")
    at_launch = memory_at_launch(BoardSettings(root), state_dir, timeout_s=0.2, environ=stub.environ)
    book = GpuMemoryBook(state_dir, at_launch)
    stub.answer(answers(CARD) or "")

    async def sample() -> None:
        sampler = sampler_over(root, clock, pids, environ=stub.environ, period_s=0.1, memory_book=book)
        async with running(sampler):
            await until(lambda: book.gpus and not book.is_worth_noting)

    asyncio.run(sample())

    assert (at_launch.gpus, book.gpus[0].total_bytes) == ((), H100.total_bytes)
    assert memory_at_launch(BoardSettings(root), state_dir).gpus[0].total_bytes == H100.total_bytes


def test_what_is_asked_before_the_spawn_loads_nothing_heavy() -> None:
    program = "import sys, arasul_supervisor.telemetry.gpu.memory_book; print(*sys.modules)"

    loaded = set(
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout.split()
    )

    assert loaded.isdisjoint(
        {"pynvml", "psutil", "asyncio", "aiohttp", "structlog", "msgspec", "ctypes", "subprocess"}
    )
