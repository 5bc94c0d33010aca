"""Guards CONTRACT §4 `/api/stats` and facts/gpu.md §7: what three machines report, figure by figure, through the real
bindings in the real child."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.telemetry.gpu.nvml import NvmlLimits, NvmlSource
from arasul_supervisor.telemetry.sampler import Sampler
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.telemetry_ground import (
    BoardSettings,
    Diary,
    HandClock,
    Pids,
    answers,
    board,
    expected,
    is_alive,
    running,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PERIOD_S = 0.1
FLAT = ("gpu_utilization", "gpu_memory", "gpu_temperature", "cpu_percent")


def sampler_of(root: Path, environ: Mapping[str, str] | None, clock: HandClock, pids: Pids) -> Sampler:
    limits = NvmlLimits(period_s=PERIOD_S)
    source = NvmlSource(
        root, clock, Diary(), own=pids.own, disown=pids.disown, limits=limits, environ=environ
    )
    return Sampler(
        BoardSettings(root),
        clock,
        lambda: os.getpid(),
        log=Diary(),
        own=pids.own,
        disown=pids.disown,
        source=source,
        period_s=PERIOD_S,
    )


def without_ages(value: Any) -> Any:  # Any: JSON
    if isinstance(value, dict):
        return {key: without_ages(part) for key, part in value.items() if key not in ("age_s", "stale")}
    return [without_ages(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["x86-one-gpu", "x86-two-gpus-mig"])
async def test_a_machine_with_nvidia_cards_reports_what_was_recorded(name: str, tmp_path: Path) -> None:
    root, clock, pids = board(name, tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers(name))
    sampler = sampler_of(root, stub.environ, clock, pids)

    async with running(sampler):
        await until(lambda: sampler.gpu_check().status == "ok" and sampler.stats(clock.now)["timestamp"])
        (root / "proc/stat.later").replace(root / "proc/stat")
        await until(lambda: sampler.stats(clock.now)["cpu_percent"])
        stats = without_ages(sampler.stats(clock.now))
        check = sampler.gpu_check().status

    wanted = expected(name)
    assert {key: stats[key] for key in FLAT} == wanted["flat"]
    assert stats["platform"] == wanted["platform"]
    assert stats["host"] == wanted["host"]
    assert stats["gpus"] == wanted["gpus"]
    assert check == wanted["gpu_check"]
    assert (pids.owned, len(pids.ever)) == (set(), 1)


async def test_a_machine_without_a_gpu_starts_no_child_and_reports_its_host(tmp_path: Path) -> None:
    root, clock, pids = board("cpu-only", tmp_path), HandClock(), Pids()
    sampler = sampler_of(root, None, clock, pids)

    async with running(sampler):
        await until(lambda: sampler.stats(clock.now)["timestamp"] and sampler.gpu_check().status == "skipped")
        (root / "proc/stat.later").replace(root / "proc/stat")
        await until(lambda: sampler.stats(clock.now)["cpu_percent"])
        stats = without_ages(sampler.stats(clock.now))
        free = sampler.free_bytes()

    wanted = expected("cpu-only")
    assert {key: stats[key] for key in FLAT} == wanted["flat"]
    assert (stats["platform"], stats["host"]) == (wanted["platform"], wanted["host"])
    assert stats["gpus"] == []
    assert free == wanted["host"]["memory"]["available_bytes"]
    assert pids.ever == []


async def test_stats_are_json_and_are_answered_from_memory(tmp_path: Path) -> None:
    root, clock, pids = board("x86-two-gpus-mig", tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-two-gpus-mig"))
    sampler = sampler_of(root, stub.environ, clock, pids)

    async with running(sampler):
        await until(lambda: sampler.gpu_check().status == "ok")
        began = time.perf_counter()
        text = json.dumps(sampler.stats(clock.now))
        took_s = time.perf_counter() - began

    assert json.loads(text)["gpu_memory"] == 43881
    assert took_s < 0.05  # the bound of the contract


async def test_before_the_first_sample_everything_is_unknown_and_nothing_is_zero(tmp_path: Path) -> None:
    root = board("x86-one-gpu", tmp_path)
    sampler = sampler_of(root, None, HandClock(), Pids())

    stats = sampler.stats(1000.0)

    assert {key: stats[key] for key in (*FLAT, "process_memory_mb", "timestamp")} == dict.fromkeys(
        (*FLAT, "process_memory_mb", "timestamp")
    )
    assert stats["gpus"] == []
    assert sampler.gpu_check().status == "unknown"


async def test_the_engine_tree_and_the_daemon_show_their_memory(tmp_path: Path) -> None:
    root, clock = board("cpu-only", tmp_path), HandClock()
    sampler = sampler_of(root, None, clock, Pids())

    async with running(sampler):
        await until(lambda: sampler.stats(clock.now)["timestamp"])
        stats: Any = sampler.stats(clock.now)

    assert stats["engine"]["pid"] == os.getpid()  # this test plays the engine
    assert 5 < stats["process_memory_mb"] < 4000
    assert stats["daemon"]["rss_bytes"] > 5 * 2**20
    assert stats["daemon"]["open_fds"] > 3


async def test_figures_older_than_three_periods_become_null_and_say_so(tmp_path: Path) -> None:
    root, clock = board("x86-one-gpu", tmp_path), HandClock()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu"))
    sampler = sampler_of(root, stub.environ, clock, Pids())
    async with running(sampler):
        await until(lambda: sampler.gpu_check().status == "ok" and sampler.stats(clock.now)["timestamp"])

    stats: Any = sampler.stats(clock.now + 10.1)  # at least 10 s, whatever the period

    assert (stats["gpu_utilization"], stats["gpu_memory"], stats["gpu_temperature"]) == (None, None, None)
    assert stats["host"]["memory"] is None
    assert (stats["gpus"][0]["stale"], stats["host"]["stale"]) == (True, True)
    assert stats["gpus"][0]["name"] == "NVIDIA H100 80GB HBM3"
    assert stats["gpus"][0]["sources"].keys() == {"name", "uuid", "pci_bus_id", "driver_version"}


async def test_a_refresh_brings_the_figures_of_now(tmp_path: Path) -> None:
    root, clock, pids = board("x86-one-gpu", tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu"))
    source = NvmlSource(root, clock, Diary(), own=pids.own, disown=pids.disown, environ=stub.environ)
    sampler = Sampler(
        BoardSettings(root), clock, lambda: None, log=Diary(), own=pids.own, disown=pids.disown, source=source
    )

    async with running(sampler):  # with its usual period of 5 s
        await until(lambda: sampler.gpu_check().status == "ok")
        before = sampler.free_bytes()
        stub.answer(answers("x86-one-gpu").replace("64238911488", "70000000000"))
        await sampler.refresh(timeout_s=1.0)
        after = sampler.free_bytes()

    assert (before, after) == (64238911488, 70000000000)


async def test_the_child_holds_nothing_of_the_daemon_but_its_two_pipes(tmp_path: Path) -> None:
    root, clock, pids = board("x86-one-gpu", tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu"))
    sampler = sampler_of(root, stub.environ, clock, pids)
    inheritable, other = os.pipe()
    os.set_inheritable(inheritable, True)

    async with running(sampler):
        await until(lambda: sampler.gpu_check().status == "ok")
        pid = pids.ever[0]
        held = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
        pipe = os.readlink(f"/proc/self/fd/{inheritable}")
        pipes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        session = os.getsid(pid)
    os.close(inheritable)
    os.close(other)

    assert held == {"pipe", "/dev/null"}
    assert pipe not in pipes
    assert session == pid
    assert not is_alive(pid)
