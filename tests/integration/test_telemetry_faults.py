"""Guards facts/gpu.md §3.4, §3.5 and the table of faults of the recorded card.

A sick driver is named, never waited for, never polled by two children, and never makes the daemon slow to answer or
to end.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.line_child.spawn import Spawned
from tests.engine.board_trees import answers
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.sick_gpu import CARD, NAME, box
from tests.engine.telemetry_ground import board, is_alive, until

if TYPE_CHECKING:
    import random
    from pathlib import Path


@pytest.mark.parametrize(
    ("fault", "state", "check"),
    [
        ("gpu-lost-15", "lost", "fail"),
        ("reset-required-16", "reset_required", "fail"),
        ("driver-mismatch-18", "driver_mismatch", "warn"),
        ("unknown-999", "no_access", "warn"),
        ("blocked-by-os-17", "no_access", "warn"),
    ],
)
async def test_a_card_that_is_sick_from_the_start_is_called_by_its_state(
    fault: str, state: str, check: str, tmp_path: Path
) -> None:
    async with box(tmp_path, fault=fault) as it:
        await until(lambda: it.state == state)

        assert it.check == check
        assert it.gpu["utilization_percent"] is it.gpu["memory_used_bytes"] is it.gpu["temperature_c"] is None


async def test_a_library_without_its_driver_is_no_gpu(tmp_path: Path) -> None:
    async with box(tmp_path, fault="driver-not-loaded-9") as it:
        await until(lambda: it.source("nvml")["state"] == "no_driver")
        library = it.root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
        library.parent.mkdir(parents=True)
        library.write_text("")
        n_children = len(it.pids.ever)
        (it.root / "sys/module/nvidia/version").unlink()
        await until(lambda: len(it.pids.ever) > n_children and not it.pids.owned)

        assert (it.gpu, it.stats["platform"]["kind"]) == (None, "cpu")
        assert it.sampler.free_bytes() == it.stats["host"]["memory"]["available_bytes"]

        it.answer()
        (it.root / "sys/module/nvidia/version").write_text("590.48.01\n")  # it is loaded at last
        await until(lambda: it.state == "ok")
        assert len(it.pids.ever) == n_children + 2


async def test_a_library_that_worked_and_refuses_is_not_said_to_refuse_its_start(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.stub.answer((answers(CARD) or "").replace("count = 1", "count = !999"))
        await until(lambda: it.state == "no_access")

        assert "NVML answers no more (code 999)" in it.source("nvml")["detail"]
        assert it.gpu["utilization_percent"] is None


async def test_who_asks_again_has_a_lost_card_looked_at_again(tmp_path: Path) -> None:
    async with box(tmp_path) as it:  # which else looks again after a minute
        await until(lambda: it.state == "ok")
        it.answer("gpu-lost-later-15")
        await until(lambda: it.state == "lost")
        it.answer()
        await it.sampler.refresh(timeout_s=0.1)
        await until(lambda: it.state == "ok")


async def test_a_child_that_dies_each_time_from_the_start_is_a_warning(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        it.stub.answer("init = crash\n")
        await until(lambda: it.check == "warn", limit_s=10)

        assert "SIGSEGV" in it.sampler.gpu_check().detail


async def test_a_card_that_is_lost_later_keeps_its_name_and_no_figure(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.answer("gpu-lost-later-15")
        await until(lambda: it.state == "lost")

        assert (it.gpu["name"], it.gpu["uuid"][:4]) == (NAME, "GPU-")
        assert it.gpu["sources"].keys() == {"name", "uuid", "pci_bus_id", "driver_version"}
        assert it.check == "fail"
        assert "gpu_changed" in it.diary.events("error")
        await until(lambda: not is_alive(it.pids.ever[0]))  # an open client would stand in the way of a reset


async def test_a_card_that_vanishes_from_the_list_is_lost_until_it_is_listed_again(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.answer("no-gpus")
        await until(lambda: it.state == "lost")

        assert (it.gpu["name"], it.check) == (NAME, "fail")
        assert "is not listed by its driver any more" in it.sampler.gpu_check().detail

        it.answer()
        await until(lambda: it.check == "ok" and it.gpu["utilization_percent"] == 100.0)
        assert len(it.pids.ever) == 1  # the driver works: it goes on being asked


async def test_access_that_is_taken_away_after_it_worked_fails(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.answer("unknown-999")
        os.kill(it.pids.ever[0], signal.SIGKILL)
        await until(lambda: it.state == "no_access")

        assert it.check == "fail"
        assert "recreate the container" in it.sampler.gpu_check().detail


async def test_a_machine_whose_driver_lists_no_card_is_skipped_in_silence(tmp_path: Path) -> None:
    async with box(tmp_path, fault="no-gpus") as it:
        await until(lambda: it.check == "skipped")
        await it.sampler.refresh(timeout_s=1.0)
        await it.sampler.refresh(timeout_s=1.0)

        assert it.gpu is None
        assert it.diary.events("warning", "error") == []


async def test_figures_that_need_a_permission_are_null_and_said_once(tmp_path: Path) -> None:
    async with box(tmp_path, fault="no-permission-4") as it:
        await until(lambda: it.state == "ok")
        await it.sampler.refresh(timeout_s=1.0)
        await it.sampler.refresh(timeout_s=1.0)

        assert it.gpu["memory_used_bytes"] is it.gpu["processes"] is None
        assert (it.gpu["memory_kind"], it.gpu["utilization_percent"], it.check) == ("dedicated", 100.0, "ok")
        assert it.diary.events("warning", "error") == ["gpu_figures_forbidden"]


async def test_a_library_that_answers_zeros_is_not_believed(tmp_path: Path) -> None:
    async with box(tmp_path, fault="zeros") as it:
        await until(lambda: it.state == "ok")

        disbelieved = (
            "memory_total_bytes",
            "memory_used_bytes",
            "memory_free_bytes",
            "temperature_c",
            "power_watts",
        )
        assert [it.gpu[figure] for figure in disbelieved] == [None] * 5
        assert (it.gpu["name"], it.gpu["clock_mhz"], it.gpu["power_limit_watts"]) == (NAME, 1875.0, 700.0)


@pytest.mark.parametrize("missing", ["WITHOUT_V3", "WITHOUT_TEMPERATURE_V", "WITHOUT_EVENT_REASONS"])
async def test_an_old_driver_gives_every_figure_by_its_older_calls(missing: str, tmp_path: Path) -> None:
    async with box(tmp_path, defines=(missing,)) as it:
        await until(lambda: it.state == "ok")

        assert it.gpu["processes"] == [{"pid": 11345, "memory_bytes": 16452157440}]
        assert (it.gpu["temperature_c"], it.gpu["throttle_reasons"]) == (59.0, ["sw_power_cap"])


async def test_another_kernel_module_brings_a_fresh_child(tmp_path: Path) -> None:
    async with box(tmp_path, fault="driver-mismatch-18") as it:
        await until(lambda: it.state == "driver_mismatch")
        assert "Kernel module 590.48.01" in it.sampler.gpu_check().detail
        it.answer()
        (it.root / "sys/module/nvidia/version").write_text("610.11.02\n")
        await until(lambda: it.state == "ok")
        (it.root / "sys/module/nvidia/version").write_text("620.1.1\n")
        await until(lambda: len(it.pids.ever) == 3)

        assert len(it.pids.owned) == 1


async def test_a_library_that_is_removed_leaves_the_card_without_a_source(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.stub.library.unlink()
        os.kill(it.pids.ever[0], signal.SIGKILL)
        await until(lambda: it.state == "none")

        assert it.check == "warn"


async def test_a_daemon_that_leaves_at_any_instant_leaves_no_child(
    tmp_path: Path, rng: random.Random
) -> None:
    for number in range(4):  # each box checks it for itself
        async with box(tmp_path / str(number), fault="unknown-999") as it:
            await until(lambda: it.pids.ever)
            await asyncio.sleep(rng.uniform(0, 0.3))  # start, refusal, end and pause of a child take 0.2 s


async def test_a_child_that_is_killed_is_followed_by_another(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        os.kill(it.pids.ever[0], signal.SIGKILL)
        await until(lambda: len(it.pids.ever) == 2 and it.state == "ok")

        assert "gpu_child_failed" in it.diary.events("warning")


async def test_a_driver_that_hangs_at_init_is_stuck_and_has_one_child_at_most(tmp_path: Path) -> None:
    async with box(tmp_path, fault="hang-at-init") as it:
        most = 0
        slowest_s = 0.0

        def look() -> bool:
            nonlocal most, slowest_s
            most = max(most, len([pid for pid in it.pids.ever if is_alive(pid)]))
            began = time.perf_counter()
            it.sampler.stats(it.clock.now)
            it.sampler.gpu_check()
            slowest_s = max(slowest_s, time.perf_counter() - began)
            return len(it.pids.ever) >= 3

        await until(look, limit_s=10)

        assert it.state == "stuck"
        assert (most, slowest_s < 0.05) == (1, True)
        assert it.check == "unknown"
        it.clock.now += 61
        assert it.check == "fail"


async def test_a_hang_in_one_figure_is_tried_again_and_stuck_when_it_repeats(tmp_path: Path) -> None:
    async with box(tmp_path) as it:
        await until(lambda: it.state == "ok")
        it.answer("hang-at-utilization")
        await until(lambda: len(it.pids.ever) == 2)
        assert (it.state, it.gpu["utilization_percent"]) == ("ok", 100.0)  # fresh enough still
        await until(lambda: it.state == "stuck")

        it.clock.now += 16
        assert (it.gpu["utilization_percent"], it.gpu["name"], it.gpu["stale"]) == (None, NAME, True)
        it.answer()
        await until(lambda: it.state == "ok" and it.gpu["utilization_percent"] == 100.0)


async def test_a_child_that_outlives_the_kill_has_no_second_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_kill = Spawned.kill
    async with box(tmp_path, fault="hang-at-init") as it:
        monkeypatch.setattr(Spawned, "kill", lambda _: None)  # as a process in state D takes it
        await until(lambda: "outlives SIGKILL" in it.sampler.gpu_check().detail)
        it.answer()
        await asyncio.sleep(0.5)  # five times the usual pause before another child
        assert (len(it.pids.ever), it.state) == (1, "stuck")

        monkeypatch.setattr(Spawned, "kill", real_kill)
        os.kill(it.pids.ever[0], signal.SIGKILL)  # the kernel lets go of it
        await until(lambda: it.state == "ok")

        assert len(it.pids.ever) == 2


async def test_a_child_that_cannot_be_ended_does_not_hold_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    pidfds: list[int] = []
    with pytest.raises(AssertionError, match="left alive"):
        async with box(tmp_path, fault="hang-at-init") as it:  # ends within a second, see `running`
            await until(lambda: it.pids.owned)
            pids += it.pids.ever
            pidfds.append(os.pidfd_open(pids[0]))
            monkeypatch.setattr(Spawned, "kill", lambda _: None)

    assert is_alive(pids[0])
    assert it.pids.owned == set()  # left to whoever reaps orphans, which is this test
    os.kill(pids[0], signal.SIGKILL)
    await until(lambda: os.waitid(os.P_PIDFD, pidfds[0], os.WEXITED | os.WNOHANG))
    os.close(pidfds[0])


DAEMON = """
import asyncio, sys
from pathlib import Path
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.telemetry.sampler import Sampler
from tests.engine.telemetry_ground import BoardSettings, Diary, Pids

pids = Pids()
sampler = Sampler(BoardSettings(Path(sys.argv[1])), SystemClock(), lambda: None, log=Diary(),
                  own=lambda pid: print(pid, flush=True), disown=pids.disown)
asyncio.run(sampler.run())
"""


@pytest.mark.parametrize("fault", ["", "hang-at-init"], ids=["healthy", "hanging"])
def test_the_child_ends_with_a_daemon_that_is_killed(fault: str, tmp_path: Path) -> None:
    root, stub = board(CARD, tmp_path), build_nvml_stub(tmp_path)
    stub.answer(answers(CARD, fault=fault) or "")
    command = [sys.executable, "-c", DAEMON, str(root)]
    with subprocess.Popen(command, env=stub.environ, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pidfd = os.pidfd_open(int(daemon.stdout.readline()))
        time.sleep(0.2 if fault else 0)  # into the hang, or in the middle of its start

        daemon.kill()
        daemon.wait(timeout=5)
        gone, _, _ = select.select([pidfd], [], [], 2.0)

    os.close(pidfd)
    assert gone
