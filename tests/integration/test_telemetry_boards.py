"""Guards CONTRACT §4 `/api/stats` and facts/gpu.md §7: what three machines report, figure by figure, through the real
bindings in the real child."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from tests.engine.board_trees import answers, expected, laid_out
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.telemetry_ground import HandClock, Pids, board, is_alive, running, sampler_over, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.sampler import Sampler

PERIOD_S = 0.1
LIMITS = SourceLimits(period_s=PERIOD_S)
FLAT = ("gpu_utilization", "gpu_memory", "gpu_temperature", "cpu_percent")
NO_LIBRARY = {"LD_LIBRARY_PATH": "/nowhere"}


def sampler_of(root: Path, environ: Mapping[str, str] | None, clock: HandClock, pids: Pids) -> Sampler:
    return sampler_over(root, clock, pids, environ=environ, limits=LIMITS, period_s=PERIOD_S)


def named_by(wanted: Any, told: Any) -> Any:  # Any: JSON
    """What is told of all that `wanted` names; what is told beside that is for other tests."""
    if isinstance(wanted, dict) and isinstance(told, dict):
        return {
            key: whole(told.get(key)) if key in TABLES else named_by(part, told.get(key))
            for key, part in wanted.items()
        }
    if isinstance(wanted, list) and isinstance(told, list) and len(wanted) == len(told):
        return [named_by(want, tell) for want, tell in zip(wanted, told, strict=True)]
    return told


def whole(table: Any) -> Any:  # Any: JSON
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if key not in FIGURES_BESIDE}


TABLES = ("temperatures_c", "temperature_limits_c", "overcurrent", "throttle_alerts", "sources")
FIGURES_BESIDE = ("fan_percent", "last_xid")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("cpu-only", ""),
        ("x86-one-gpu", ""),
        ("x86-two-gpus-mig", ""),
        ("jetson-agx-orin-jp6", ""),
        ("jetson-agx-orin-jp6", "busy"),
        ("jetson-agx-orin-jp6-container", ""),
        ("jetson-orin-nano-jp5", ""),
        ("jetson-thor-jp7", ""),
        ("jetson-thor-jp7", "busy"),
        ("nasty-jetson", ""),
        ("nasty-x86", ""),
    ],
)
async def test_a_machine_reports_what_was_recorded(name: str, state: str, tmp_path: Path) -> None:
    wanted, clock, pids = expected(name, state), HandClock(), Pids()
    library = answers(name, state=state)
    environ: Mapping[str, str] = {**os.environ, **NO_LIBRARY}
    if library is not None:
        stub = build_nvml_stub(tmp_path)
        stub.answer(library)
        environ = stub.environ
    is_jetson = wanted["platform"]["kind"] == "jetson"
    n_working = (library is not None) + is_jetson

    with laid_out(name, tmp_path / "root", *(state,) if state else ()) as root:
        sampler = sampler_of(root, environ, clock, pids)
        async with running(sampler):
            await until(lambda: is_complete(sampler, clock, n_working))
            (root / "proc/stat.later").replace(root / "proc/stat")
            percent = wanted["flat"]["cpu_percent"]
            await until(lambda: sampler.stats(clock.now)["cpu_percent"] == percent)
            stats = dict(sampler.stats(clock.now))
            check = sampler.gpu_check().status

    assert {key: stats[key] for key in FLAT} == wanted["flat"]
    assert named_by(wanted["platform"], stats["platform"]) == wanted["platform"]
    assert named_by(wanted["host"], stats["host"]) == wanted["host"]
    assert named_by(wanted["gpus"], stats["gpus"]) == wanted["gpus"]
    assert check == wanted["gpu_check"]
    n_children = 2 if is_jetson else n_working  # whether a Jetson has the library is learnt by a child
    assert (pids.owned, len(pids.ever)) == (set(), n_children)


def is_complete(sampler: Sampler, clock: HandClock, n_working: int) -> bool:
    """Whether host, board and each source have been looked at."""
    stats: Any = sampler.stats(clock.now)
    working = [source for source in stats["gpu_sources"] if source["state"] == "ok"]
    answered = [source for source in stats["gpu_sources"] if source["state"]]
    is_host_known = stats["timestamp"] and stats["host"]["temperatures_c"] is not None
    return bool(is_host_known and len(working) == n_working and len(answered) == 2)


async def test_a_machine_without_a_gpu_starts_no_child(tmp_path: Path) -> None:
    root, clock, pids = board("cpu-only", tmp_path), HandClock(), Pids()
    sampler = sampler_of(root, None, clock, pids)

    async with running(sampler):
        await until(lambda: sampler.gpu_check().status == "skipped")
        free = sampler.free_bytes()

    assert free == expected("cpu-only")["host"]["memory"]["available_bytes"]
    assert pids.ever == []


async def test_stats_are_json_and_are_answered_from_memory(tmp_path: Path) -> None:
    root, clock, pids = board("x86-two-gpus-mig", tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-two-gpus-mig") or "")
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
    stub.answer(answers("x86-one-gpu") or "")
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
    stub.answer(answers("x86-one-gpu") or "")
    sampler = sampler_over(root, clock, pids, environ=stub.environ)

    async with running(sampler):  # with its usual period of 5 s
        await until(lambda: sampler.gpu_check().status == "ok")
        before = sampler.free_bytes()
        stub.answer((answers("x86-one-gpu") or "").replace("64238911488", "70000000000"))
        await sampler.refresh(timeout_s=1.0)
        after = sampler.free_bytes()

    assert (before, after) == (64238911488, 70000000000)


async def test_the_child_holds_nothing_of_the_daemon_but_its_two_pipes(tmp_path: Path) -> None:
    root, clock, pids = board("x86-one-gpu", tmp_path), HandClock(), Pids()
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu") or "")
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
