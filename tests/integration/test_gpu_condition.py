"""Guards facts/gpu.md §3.4, §5.2, §7.3 as healing needs them: the GPU and the memory of a box as one witness each."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.telemetry.cgroup import GroupLimits
from arasul_supervisor.telemetry.gpu.readings import GpuReading, SourceReport
from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from arasul_supervisor.telemetry.gpu_condition import GpuCondition, condition_of
from arasul_supervisor.telemetry.gpu_view import GpuView, view_gpus
from arasul_supervisor.telemetry.host import HostMemory, HostSample, LoadAverages, MemoryPressure
from arasul_supervisor.telemetry.memory_condition import memory_condition
from arasul_supervisor.telemetry.stats import Look
from tests.engine.board_trees import answers, expected, laid_out
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.sick_gpu import CARD, LIMITS, box
from tests.engine.telemetry_ground import HandClock, Pids, board, running, sampler_over, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.sampler import Sampler

GIB, MIB = 1 << 30, 1 << 20
WELL = GpuReading(0, name="A10", uuid="GPU-a", utilization_percent=40.0, has_worked=True)
ORIN = GpuReading(0, "sysfs", node="17000000.gpu", has_load_file=True, is_unified=True, has_worked=True)
THOR = replace(ORIN, node="gpu-gpc-0", has_load_file=False)
THORS = GpuReading(0, name="NVIDIA Thor", uuid="GPU-t", is_unified=True, has_worked=True)


async def test_the_condition_follows_a_card_that_is_taken_away_and_comes_back(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.sampler.gpu_condition().is_well)
        well = it.sampler.gpu_condition()
        it.answer("unknown-999")
        os.kill(it.pids.ever[0], signal.SIGKILL)
        await until(lambda: it.sampler.gpu_condition().state == "no_access")
        gone = it.sampler.gpu_condition()
        it.answer()
        await until(lambda: it.sampler.gpu_condition().is_well)

    assert (well.state, well.load_percent, well.is_unified) == ("ok", 100.0, False)
    assert (gone.is_well, gone.has_worked, gone.load_percent, gone.fullest_percent) == (
        False,
        True,
        None,
        None,
    )
    assert "code 999" in gone.sentence


async def test_a_driver_that_was_upgraded_under_the_kernel_is_a_mismatch(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.sampler.gpu_condition().is_well)
        it.answer("driver-mismatch-18")
        os.kill(
            it.pids.ever[0], signal.SIGKILL
        )  # only a fresh process sees the new library (facts/gpu.md §3.4)
        await until(lambda: it.sampler.gpu_condition().state == "driver_mismatch")

        assert (it.sampler.gpu_condition().is_well, it.sampler.gpu_condition().has_worked) == (False, True)


@pytest.mark.parametrize(
    ("fault", "state"), [("gpu-lost-later-15", "lost"), ("reset-required-16", "reset_required")]
)
async def test_a_card_that_worked_and_falls_ill_is_called_by_its_state(
    fault: str, state: str, tmp_path: Path
) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.sampler.gpu_condition().is_well)
        it.answer(fault)
        await until(lambda: it.sampler.gpu_condition().state == state)

        assert (it.sampler.gpu_condition().is_well, it.sampler.gpu_condition().has_worked) == (False, True)


async def test_a_card_that_is_lost_is_lost_since_it_was_seen_so(tmp_path: Path) -> None:
    stub, clock, pids = build_nvml_stub(tmp_path), HandClock(), Pids()
    stub.answer(answers(CARD) or "")
    sampler = sampler_over(
        board(CARD, tmp_path), clock, pids, environ=stub.environ, limits=LIMITS, period_s=0.05
    )
    async with running(sampler):
        await until(lambda: sampler.gpu_condition().is_well)
        clock.now = 1007.0
        stub.answer(answers(CARD, fault="no-gpus") or "")
        await until(lambda: sampler.gpu_condition().state == "lost")
        n_samples = len(sampler.history.last(900.0, now_mono=clock.now))
        await until(lambda: len(sampler.history.last(900.0, now_mono=clock.now)) > n_samples + 2)
        clock.now = 1012.0
        await until(lambda: (sampler.gpu_check().age_s or 0.0) < 1.0)  # it has been looked at again

        assert sampler.gpu_condition().since_mono == pytest.approx(1007.0)
        assert "not listed by its driver any more" in sampler.gpu_condition().sentence


async def test_a_call_that_hangs_is_stuck_since_it_was_found_so(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.sampler.gpu_condition().is_well)
        it.clock.now = 1003.0
        it.answer("hang-at-utilization")
        await until(lambda: it.sampler.gpu_condition().state == "stuck", limit_s=10)
        it.clock.now = 1012.0

        assert it.sampler.gpu_condition().since_mono == 1003.0
        assert not it.sampler.gpu_condition().is_well


async def test_figures_that_are_old_are_no_card_that_is_well(tmp_path: Path) -> None:
    async with box(tmp_path, limits=replace(SourceLimits(), period_s=60.0)) as it:
        await until(lambda: it.sampler.gpu_condition().is_well)
        it.clock.now += 16.0

        assert not it.sampler.gpu_condition().is_well
        assert "16 s old" in it.sampler.gpu_condition().sentence


async def test_a_machine_without_a_gpu_has_none_and_the_hosts_memory(tmp_path: Path) -> None:
    sampler = sampler_over(board("cpu-only", tmp_path), HandClock(), Pids(), environ=None)

    async with running(sampler):
        await until(lambda: sampler.gpu_condition().state == "none" and sampler.memory())
        memory = sampler.memory()

    wanted = expected("cpu-only")["host"]["memory"]
    assert memory is not None
    assert (memory.available_bytes, memory.total_bytes, memory.is_dedicated) == (
        wanted["available_bytes"],
        wanted["total_bytes"],
        False,
    )


def a_boards_sampler(name: str, root: Path, tmp_path: Path) -> Sampler:
    environ: Mapping[str, str] = {**os.environ, "LD_LIBRARY_PATH": "/nowhere"}
    library = answers(name)
    if library is not None:
        stub = build_nvml_stub(tmp_path)
        stub.answer(library)
        environ = stub.environ
    return sampler_over(
        root, HandClock(), Pids(), environ=environ, limits=SourceLimits(period_s=0.1), period_s=0.1
    )


@pytest.mark.parametrize(
    "name",
    [
        "jetson-agx-orin-jp6",
        "jetson-agx-orin-jp6-container",
        "jetson-orin-nano-jp5",
        "jetson-thor-jp7",
        "nasty-jetson",
    ],
)
async def test_a_jetson_is_well_and_its_memory_is_the_hosts(name: str, tmp_path: Path) -> None:
    with laid_out(name, tmp_path / "root") as root:
        sampler = a_boards_sampler(name, root, tmp_path)
        async with running(sampler):
            await until(lambda: sampler.gpu_condition().is_well and sampler.memory())
            condition, memory = sampler.gpu_condition(), sampler.memory()

    wanted = expected(name)["host"]["memory"]
    assert memory is not None
    assert (condition.is_unified, condition.fullest_percent, memory.is_dedicated) == (True, None, False)
    assert (memory.available_bytes, memory.total_bytes) == (wanted["available_bytes"], wanted["total_bytes"])


async def test_a_card_with_memory_of_its_own_is_where_models_live(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.sampler.gpu_condition().is_well and it.sampler.memory())
        memory, condition = it.sampler.memory(), it.sampler.gpu_condition()

    (gpu,) = expected(CARD)["gpus"]
    used, total = gpu["memory_used_bytes"], gpu["memory_total_bytes"]
    assert memory is not None
    assert (memory.is_dedicated, memory.available_bytes, memory.total_bytes) == (True, total - used, total)
    assert condition.fullest_percent == pytest.approx(100 * used / total)


async def test_memory_of_a_look_that_is_too_old_is_not_told(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(it.sampler.memory)
        it.clock.now += 16.0

        assert it.sampler.memory() is None


async def test_a_limit_of_the_group_is_told_where_it_is_the_tighter_one(tmp_path: Path) -> None:
    root = board("cpu-only", tmp_path)
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{2 * GIB}\n")
    (group / "memory.current").write_text(f"{1900 * MIB}\n")
    sampler = sampler_over(root, HandClock(), Pids(), environ=None)
    async with running(sampler):
        await until(sampler.memory)
        memory = sampler.memory()

    assert memory is not None
    assert (memory.group_limit_bytes, memory.group_used_bytes) == (2 * GIB, 1900 * MIB)
    assert memory.available_bytes == expected("cpu-only")["host"]["memory"]["available_bytes"]


def told(source: str, *readings: GpuReading, state: str = "ok", **more: Any) -> SourceReport:  # Any: fields
    fields = {"has_answered": True, "has_worked": True, "taken_mono": 100.0, "readings": readings, **more}
    return SourceReport(source, state, f"{source} is {state}.", 90.0, **fields)


def seen(*reports: SourceReport, now_mono: float = 101.0) -> GpuView:
    return view_gpus(reports, now_mono=now_mono, stale_after_s=15.0)


def condition(*reports: SourceReport, now_mono: float = 101.0) -> GpuCondition:
    return condition_of(seen(*reports, now_mono=now_mono))


@pytest.mark.parametrize("state", ["no_access", "stuck", "lost", "driver_mismatch"])
def test_the_stub_library_of_a_jetson_condemns_nothing(state: str) -> None:
    assert condition(told("nvml", state=state), told("tegra", ORIN)).state == "ok"


def test_firmware_that_hangs_condemns_no_gpu_that_nvml_tells_of() -> None:
    found = condition(told("nvml", THORS), told("tegra", THOR, state="stuck"))

    assert (found.state, found.is_well) == ("ok", True)


@pytest.mark.parametrize("gpus", [("tegra", ORIN), ("tegra",)], ids=["of a Jetson", "of a box without a GPU"])
def test_jtop_condemns_nothing(gpus: Any) -> None:  # Any: a source with its readings
    assert condition(told(*gpus), told("jtop", state="stuck")).state in ("ok", "none")


def test_nothing_is_well_before_the_board_was_looked_at() -> None:
    found = condition(told("nvml", WELL), told("tegra", has_answered=False, taken_mono=None, state="none"))

    assert (found.state, found.is_well) == ("unknown", False)


def test_the_worst_of_two_cards_speaks_though_the_other_is_well() -> None:
    found = condition(told("nvml", WELL, replace(WELL, index=1, uuid="GPU-b", state="lost")))

    assert (found.state, found.is_well, found.load_percent) == ("lost", True, 40.0)
    assert "GPU 1" in found.sentence


def test_a_second_card_that_never_worked_is_no_loss() -> None:
    never = GpuReading(1, uuid="GPU-b", state="no_access")

    assert not condition(told("nvml", WELL, never)).has_worked


def test_a_card_that_has_just_fallen_off_the_bus_is_not_well_though_it_answers() -> None:
    reported = replace(WELL, last_xid=79, last_xid_mono=95.0)

    assert not condition(told("nvml", reported)).is_well
    assert condition(told("nvml", replace(reported, last_xid=31))).is_well


def test_a_state_keeps_its_beginning_from_look_to_look() -> None:
    lost = replace(WELL, state="lost")
    first = condition(told("nvml", lost), now_mono=101.0)
    later = condition_of(seen(told("nvml", lost, taken_mono=110.0), now_mono=111.0), first)

    assert first.since_mono == later.since_mono == 100.0


def looked(*, limit_bytes: int | None) -> Look:
    memory = HostMemory(8 * GIB, 3 * GIB, 0, 0, None, limit_bytes, 100 * MIB)
    host = HostSample(
        memory, None, 2, LoadAverages(), MemoryPressure(7.5), 0, GroupLimits(None, None, None, None)
    )
    return Look(99.0, 0.0, host, None, None, None)


def test_a_jetson_with_a_card_in_it_is_judged_by_what_both_share() -> None:
    card = replace(WELL, index=1, memory_used_bytes=79 * GIB, memory_total_bytes=80 * GIB)
    memory = memory_condition(looked(limit_bytes=None), seen(told("nvml", card), told("tegra", ORIN)))

    assert memory is not None
    assert (memory.is_dedicated, memory.available_bytes, memory.total_bytes) == (False, 3 * GIB, 8 * GIB)
    assert (memory.age_s, memory.pressure_percent) == (2.0, 7.5)


@pytest.mark.parametrize(("limit", "told_bytes"), [(4 * GIB, 4 * GIB), (8 * GIB, None), (None, None)])
def test_only_a_limit_below_the_hosts_memory_is_one(limit: int | None, told_bytes: int | None) -> None:
    memory = memory_condition(looked(limit_bytes=limit), seen(told("nvml", state="none")))

    assert memory is not None
    assert memory.group_limit_bytes == told_bytes


def test_a_card_that_is_lost_leaves_models_to_the_hosts_memory() -> None:
    lost = replace(WELL, memory_used_bytes=79 * GIB, memory_total_bytes=80 * GIB, state="lost")
    memory = memory_condition(looked(limit_bytes=None), seen(told("nvml", lost)))

    assert memory is not None
    assert (memory.is_dedicated, memory.available_bytes) == (False, 3 * GIB)
