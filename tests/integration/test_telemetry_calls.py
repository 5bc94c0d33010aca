"""Guards facts/gpu.md §3.3, §3.5: a call that crashes, sleeps in the kernel or is missing takes only what it must."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from tests.engine.board_trees import answers, laid_out
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.sick_gpu import CARD, LIMITS, NAME, box
from tests.engine.telemetry_ground import Diary, HandClock, Pids, is_alive, running, sampler_over, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WELL = answers(CARD) or ""


def with_figure(name: str, value: str) -> str:
    return f"{WELL}\ngpu0.{name} = {value}\n"


async def test_a_call_that_crashes_ends_the_child_alone_and_is_named(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.stub.answer(with_figure("temperature", "crash"))
        await until(lambda: len(it.pids.ever) >= 3)  # tried again, and again
        it.clock.now += 15.1  # three periods

        assert (it.gpu["temperature_c"], it.gpu["utilization_percent"], it.gpu["name"]) == (None, None, NAME)
        assert (it.gpu["stale"], it.check, it.source("nvml")["state"]) == (True, "unknown", None)
        assert "SIGSEGV" in it.sampler.gpu_check().detail
        assert "SIGSEGV" in it.source("nvml")["detail"]

        it.answer()
        await until(lambda: it.gpu["temperature_c"] == 59.0)


async def test_a_call_that_sleeps_in_the_kernel_is_told_with_its_state(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.stub.answer(with_figure("power_mw", "sleep-in-kernel"))
        await until(lambda: it.state == "stuck")

        assert "state D" in it.source("nvml")["detail"]
        assert it.gpu["power_watts"] == 631.95  # not older than three periods
        it.clock.now += 15.1
        assert it.gpu["power_watts"] is None

        it.answer()
        await until(lambda: it.gpu["power_watts"] == 631.95)
        await until(lambda: asking(it.stub.environ) == it.pids.owned)  # what slept beside each went with it


async def test_a_driver_of_years_ago_gives_what_it_can(tmp_path: Path) -> None:
    async with box(tmp_path, defines=("ANCIENT",)) as it:
        await until(lambda: it.state == "ok")

        assert (
            it.gpu["memory_used_bytes"] == 85520809984 - 64238911488
        )  # version 1 counts the reserve as used
        assert (it.gpu["memory_reserved_bytes"], it.gpu["mig"], it.gpu["last_xid"]) == (None, None, None)
        assert it.gpu["processes"] == [{"pid": 11345, "memory_bytes": 16452157440}]
        assert (it.gpu["temperature_c"], it.check) == (59.0, "ok")


async def test_fan_cuda_and_error_reports_are_told(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        before = (it.gpu["fan_percent"], it.gpu["last_xid"])
        it.stub.answer(f"cuda = 13010\n{with_figure('fan_percent', '37')}gpu0.xids = 31\n")
        os.kill(it.pids.ever[0], signal.SIGKILL)  # what was refused for good is asked by another child
        await until(lambda: it.gpu["last_xid"] == 31)

        assert before == (None, None)
        assert (it.gpu["fan_percent"], it.stats["platform"]["cuda"]) == (37.0, "13.1")
        assert it.gpu["sources"]["fan_percent"] == "nvml"
        assert it.check == "ok"  # a program's own fault

        it.stub.answer(f"{with_figure('xids', '31 79')}")
        await until(lambda: it.gpu["last_xid"] == 79)
        assert it.check == "fail"


async def test_a_card_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    limits = SourceLimits(period_s=0.05, sample_s=0.4, look_again_s=0.1, look_lost_s=0.2)
    async with box(tmp_path, limits=limits) as it:
        await until(lambda: it.state == "ok")
        it.answer("gpu-lost-later-15")
        await until(lambda: it.state == "lost")
        it.answer()
        await until(lambda: it.state == "ok" and it.gpu["utilization_percent"] == 100.0)

        assert it.check == "ok"
        assert it.diary.events("error") == ["gpu_changed"]


async def test_firmware_that_hangs_leaves_the_other_source_its_figures(tmp_path: Path) -> None:
    clock, pids, stub = HandClock(), Pids(), build_nvml_stub(tmp_path)
    stub.answer(answers("jetson-thor-jp7", state="busy") or "")
    with laid_out("jetson-thor-jp7", tmp_path / "root", "busy") as root:
        sampler = sampler_over(root, clock, pids, environ=stub.environ, limits=LIMITS)
        async with running(sampler):
            await until(lambda: sources(sampler.stats(clock.now), "state") == {"nvml": "ok", "tegra": "ok"})
            for _ in range(2):
                os.kill(child(sampler.stats(clock.now), "tegra"), signal.SIGSTOP)  # as a read that hangs
                n_children = len(pids.ever)
                await until(lambda n=n_children: len(pids.ever) > n)  # type: ignore[misc]  # a default binds it now
            frozen = child(sampler.stats(clock.now), "tegra")
            os.kill(frozen, signal.SIGSTOP)
            await until(lambda: sources(sampler.stats(clock.now), "state")["tegra"] == "stuck")
            stats: Any = sampler.stats(clock.now)
            detail = sampler.gpu_check().detail
            await until(lambda: sources(sampler.stats(clock.now), "state")["tegra"] == "ok")

    assert (stats["gpus"][0]["state"], stats["gpus"][0]["utilization_percent"]) == ("ok", 87.0)
    assert "The firmware of this board hangs" in detail
    assert [pid for pid in pids.ever if is_alive(pid)] == []


def asking(environ: Mapping[str, str]) -> set[int]:
    """Living processes that ask this stub."""
    marker = f"NVML_STUB_FILE={environ['NVML_STUB_FILE']}".encode()
    found: set[int] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if marker in file.read().split(b"\0"):
                found.add(int(name))
    return found


def sources(stats: Any, field: str) -> dict[str, Any]:  # Any: JSON
    return {source["source"]: source[field] for source in stats["gpu_sources"]}


def child(stats: Any, source: str) -> int:  # Any: JSON
    pid = sources(stats, "child_pid")[source]
    assert isinstance(pid, int)
    return pid


@pytest.mark.parametrize("board_name", ["jetson-orin-nano-jp5", "jetson-thor-jp7"])
async def test_each_child_of_a_jetson_holds_nothing_of_the_daemon(board_name: str, tmp_path: Path) -> None:
    clock, pids, stub = HandClock(), Pids(), build_nvml_stub(tmp_path)
    stub.answer(answers("jetson-thor-jp7") or "")
    with laid_out(board_name, tmp_path / "root") as root:
        sampler = sampler_over(root, clock, pids, environ=stub.environ, limits=LIMITS, diary=Diary())
        async with running(sampler):
            await until(lambda: sources(sampler.stats(clock.now), "state") == {"nvml": "ok", "tegra": "ok"})
            held = [
                {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
                for pid in sorted(pids.owned)
            ]

    assert held == [{"pipe", "/dev/null"}] * 2
