"""Guards CONTRACT §4 `/api/stats` for the host: figures are right or null, whatever the files hold."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry.files import read_text
from arasul_supervisor.telemetry.host import (
    CpuTimes,
    cpu_percent,
    parse_cpu_times,
    parse_meminfo,
    read_memory,
)
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.offload import Offload
from arasul_supervisor.telemetry.process_figures import read_tree
from arasul_supervisor.telemetry.thermal import read_temperatures

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\nHugePages_Total:       3\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_used_memory_leaves_the_page_cache_out(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", MEMINFO)

    memory = read_memory(tmp_path)

    assert memory is not None
    assert (memory.total_bytes, memory.used_bytes, memory.used_percent) == (1024000, 600 * 1024, 60.0)
    assert (memory.swap_total_bytes, memory.nvmap_bytes) == (None, None)


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "\0\0"])
def test_a_meminfo_without_the_two_figures_is_unknown(text: str, tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", text)

    assert read_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "limit", "current"),
    [
        ({"sys/fs/cgroup/memory.max": "4096\n", "sys/fs/cgroup/memory.current": "100\n"}, 4096, 100),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "100\n"}, None, 100),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/memory.max": "4096\n",
                "sys/fs/cgroup/a.slice/memory.current": "999\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
                "sys/fs/cgroup/a.slice/b.service/memory.current": "100\n",
            },
            4096,
            100,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/1\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "77\n",
            },
            None,
            77,
        ),
        ({}, None, None),
    ],
    ids=["container", "no limit", "limit of the slice above", "version 1 without limit", "root"],
)
def test_the_tightest_cgroup_limit_counts(
    files: dict[str, str], limit: int | None, current: int | None, tmp_path: Path
) -> None:
    write(tmp_path, "proc/meminfo", MEMINFO)
    for name, text in files.items():
        write(tmp_path, name, text)

    memory = read_memory(tmp_path)

    assert memory is not None
    assert (memory.cgroup_limit_bytes, memory.cgroup_current_bytes) == (limit, current)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (None, CpuTimes(100, 50), None),
        (CpuTimes(100, 50), None, None),
        (CpuTimes(100, 50), CpuTimes(100, 50), None),
        (CpuTimes(100, 50), CpuTimes(200, 50), 100.0),
        (CpuTimes(100, 50), CpuTimes(300, 200), 25.0),  # 200 ticks, 150 of them idle
        (CpuTimes(100, 50), CpuTimes(200, 149), 1.0),
        (CpuTimes(100, 50), CpuTimes(200, 160), 0.0),  # iowait may step back
    ],
    ids=[
        "no first",
        "no second",
        "no time between",
        "all busy",
        "quarter",
        "nearly idle",
        "more idle than time",
    ],
)
def test_processor_load_needs_two_looks(
    before: CpuTimes | None, after: CpuTimes | None, percent: float | None
) -> None:
    assert cpu_percent(before, after) == percent


def test_idle_time_holds_the_wait_for_disks_and_guests_are_not_counted_twice() -> None:
    times = parse_cpu_times("cpu  10 1 20 300 40 5 6 7 8 9\ncpu0 1 1 1 1 1 1 1 1 1 1")

    assert times == CpuTimes(total=10 + 1 + 20 + 300 + 40 + 5 + 6 + 7, idle=340)


@given(st.text())
def test_any_text_in_the_files_gives_figures_or_nothing(text: str) -> None:
    parse_meminfo(text)
    parse_cpu_times(f"cpu {text}")


@pytest.mark.parametrize(
    ("files", "is_container"),
    [
        ({}, False),
        ({".dockerenv": ""}, True),
        ({"run/.containerenv": ""}, True),
        ({"proc/self/cgroup": "4:memory:/kubepods/pod1\n"}, True),
        ({"proc/self/mountinfo": "620 535 0:61 / / rw,relatime - overlay overlay rw,lowerdir=/a\n"}, True),
        ({"proc/self/mountinfo": "24 1 259:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"}, False),
    ],
    ids=["bare", "docker", "podman", "kubernetes", "overlay as root", "disk as root"],
)
def test_a_container_is_known_by_its_marks(files: dict[str, str], is_container: bool, tmp_path: Path) -> None:
    for name, text in files.items():
        write(tmp_path, name, text)

    assert read_machine(tmp_path).is_container is is_container


def test_a_tegra_kernel_is_a_jetson(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/osrelease", "5.15.148-tegra\n")

    assert read_machine(tmp_path).is_jetson


def test_zones_carry_their_type_and_a_silent_one_is_null(tmp_path: Path) -> None:
    zones = tmp_path / "sys/class/thermal"
    for number, kind, temp in (
        (10, "acpitz", "1000"),
        (2, "acpitz", "27800"),
        (0, "GPU-therm", "x"),
        (1, "tj-thermal", "5"),
    ):
        write(zones, f"thermal_zone{number}/type", f"{kind}\n")
        write(zones, f"thermal_zone{number}/temp", f"{temp}\n")
    write(zones, "thermal_zone3/type", "cpu-thermal\n")
    os.mkfifo(zones / "thermal_zone3/temp")
    held_open = os.open(zones / "thermal_zone3/temp", os.O_RDWR)

    found = read_temperatures(tmp_path)
    os.close(held_open)

    assert found == {"gpu": None, "tj": 0.005, "acpitz": 27.8, "cpu": None, "acpitz_2": 1.0}
    assert list(found) == ["gpu", "tj", "acpitz", "cpu", "acpitz_2"]


def test_a_folder_in_place_of_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/stat").mkdir(parents=True)

    assert read_text(tmp_path / "proc/stat") is None


def test_the_tree_of_a_process_counts_its_descendants() -> None:
    nest = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", nest], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()  # from the grandchild
        tree = read_tree(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(timeout=10)

    assert tree is not None
    assert tree.processes == 2
    assert tree.rss_bytes > 2 * 3 * 2**20


def test_a_kernel_without_lists_of_children_is_scanned(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    for pid, parent, pages in ((100, 1, 10), (101, 100, 20), (102, 101, 30), (103, 1, 40)):
        write(tmp_path, f"{pid}/stat", f"{pid} (a) name) S {parent} 100 100 0")
        write(tmp_path, f"{pid}/statm", f"99 {pages} 0 0 0 0 0")

    tree = read_tree(100, tmp_path)

    assert tree is not None
    assert (tree.processes, tree.rss_bytes) == (3, 60 * page)


def test_no_engine_is_no_figure() -> None:
    assert read_tree(None) is None


async def test_a_read_that_is_stuck_is_given_up_and_not_doubled() -> None:
    may_go_on = threading.Event()
    offload = Offload("test-stuck-read")
    calls: list[int] = []

    def stuck() -> int:
        calls.append(1)
        may_go_on.wait(10)
        return 1

    first = await offload.call(stuck, timeout_s=0.05)
    second = await offload.call(stuck, timeout_s=0.05)
    may_go_on.set()
    await offload.settle(timeout_s=2)
    third = await offload.call(stuck, timeout_s=2)

    assert (first, second, third, len(calls)) == (None, None, 1, 2)


async def test_what_a_read_raises_reaches_its_caller() -> None:
    def broken() -> int:
        raise ValueError("odd file")

    with pytest.raises(ValueError, match="odd file"):
        await Offload("test-broken-read").call(broken, timeout_s=2)


def test_a_stuck_read_does_not_hold_the_end_of_the_loop() -> None:
    may_go_on = threading.Event()

    async def main() -> None:
        await Offload("test-left-read").call(lambda: may_go_on.wait(10), timeout_s=0.01)

    asyncio.run(main())  # would wait for the thread if it were one of an executor

    assert not may_go_on.is_set()
    may_go_on.set()
