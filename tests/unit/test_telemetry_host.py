"""Guards CONTRACT §4 `/api/stats` for the host: figures are right or null, whatever the files hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry.files import read_text
from arasul_supervisor.telemetry.host import (
    CpuTimes,
    LoadAverages,
    MemoryPressure,
    cpu_percent,
    parse_cpu_times,
    parse_loads,
    parse_meminfo,
    parse_pressure,
    read_host,
    read_memory,
)
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.thermal import find_zones, read_zone

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


def test_the_processors_that_are_online_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path, "proc/stat", "cpu  9 0 0 9 9 0\ncpu0 1 0 0 1 1 0\ncpu3 1 0 0 1 1 0\nintr 5 cpu1 0\nctxt 1\n"
    )

    assert read_host(tmp_path).cpus == 2  # 1 and 2 are switched off


def test_the_load_of_three_spans_is_told() -> None:
    assert parse_loads("0.20 0.18 12.00 1/80 11206") == LoadAverages(0.2, 0.18, 12.0)


@pytest.mark.parametrize("text", [None, "", "0.20 0.18", "a b c", "nan nan nan 1/2 3", "1.00 2.00 3.000"])
def test_a_load_of_another_shape_is_unknown(text: str | None) -> None:
    assert parse_loads(text) == LoadAverages(None, None, None)


@pytest.mark.parametrize(
    ("text", "pressure"),
    [
        (
            "some avg10=0.22 avg60=0.17 avg300=1.11 total=58\nfull avg10=100.00 avg60=0.13 avg300=0.96 total=47",
            MemoryPressure(0.22, 100.0),
        ),
        ("some avg10=0.22 avg60=0.17 avg300=1.11 total=58", MemoryPressure(0.22, None)),
        (None, MemoryPressure(None, None)),
        ("some avg10= avg60=0.17\nfull avg10=x", MemoryPressure(None, None)),
    ],
    ids=["both", "an old kernel without the second line", "a kernel without it", "garbage"],
)
def test_the_pressure_on_memory_is_that_of_the_last_ten_seconds(
    text: str | None, pressure: MemoryPressure
) -> None:
    assert parse_pressure(text) == pressure


def test_the_kills_of_the_whole_box_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "proc/vmstat", "nr_free_pages 9\noom_kill_other 5\noom_kill 37\ndrop_pagecache 0\n")

    assert read_host(tmp_path).oom_kills == 37


def test_a_box_that_tells_nothing_has_no_figure_and_no_zero(tmp_path: Path) -> None:
    host = read_host(tmp_path)

    assert (host.memory, host.cpu, host.cpus, host.oom_kills) == (None, None, None, None)
    assert (host.load, host.pressure) == (LoadAverages(), MemoryPressure())


@given(st.text())
def test_any_text_in_the_files_gives_figures_or_nothing(text: str) -> None:
    parse_meminfo(text)
    parse_meminfo(f"MemTotal: {text} kB")
    parse_cpu_times(f"cpu {text}")
    parse_loads(text)
    parse_pressure(f"some avg10={text}")


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

    found = {zone.name: read_zone(zone).celsius for zone in find_zones(tmp_path)}
    os.close(held_open)

    assert found == {"gpu": None, "tj": 0.005, "acpitz": 27.8, "cpu": None, "acpitz_2": 1.0}
    assert list(found) == ["gpu", "tj", "acpitz", "cpu", "acpitz_2"]


def test_a_folder_in_place_of_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/stat").mkdir(parents=True)

    assert read_text(tmp_path / "proc/stat") is None
