"""Guards CONTRACT §4 `/api/stats`: what a container or a service may use is read on both versions of control groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry.cgroup import Groups, parse_oom_kills, quota_cpus
from arasul_supervisor.telemetry.host import read_memory

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n"
IN_A_SLICE = {"proc/self/cgroup": "0::/a.slice/b.service\n"}
IN_V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n8:pids:/docker/1\n0::/\n"}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


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
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})

    memory = read_memory(tmp_path)

    assert memory is not None
    assert (memory.cgroup_limit_bytes, memory.cgroup_current_bytes) == (limit, current)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                **IN_A_SLICE,
                "sys/fs/cgroup/a.slice/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "400000 100000\n",
            },
            2.0,
        ),
        (
            {
                **IN_V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                **IN_V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"sys/fs/cgroup/cpu.max": "garbage\n"}, None),
        ({}, None),
    ],
    ids=[
        "container",
        "no limit",
        "limit of the slice above",
        "version 1",
        "version 1 without limit",
        "garbage",
        "no files",
    ],
)
def test_the_tightest_quota_of_processor_time_counts(
    files: dict[str, str], cpus: float | None, tmp_path: Path
) -> None:
    write(tmp_path, files)

    assert Groups(tmp_path).limits().cpus == cpus


@pytest.mark.parametrize(
    ("files", "limit", "current"),
    [
        ({"sys/fs/cgroup/pids.max": "512\n", "sys/fs/cgroup/pids.current": "17\n"}, 512, 17),
        ({"sys/fs/cgroup/pids.max": "max\n", "sys/fs/cgroup/pids.current": "17\n"}, None, 17),
        (
            {**IN_V1, "sys/fs/cgroup/pids/pids.max": "64\n", "sys/fs/cgroup/pids/pids.current": "3\n"},
            64,
            3,
        ),
        ({}, None, None),
    ],
    ids=["container", "no limit", "version 1", "no files"],
)
def test_the_limit_of_processes_stands_beside_their_number(
    files: dict[str, str], limit: int | None, current: int | None, tmp_path: Path
) -> None:
    write(tmp_path, files)

    limits = Groups(tmp_path).limits()

    assert (limits.pids_limit, limits.pids) == (limit, current)


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        (
            {
                **IN_A_SLICE,
                "sys/fs/cgroup/a.slice/memory.events": "low 0\noom 1\noom_kill 9\n",
                "sys/fs/cgroup/a.slice/b.service/memory.events": "low 0\noom 1\noom_kill 2\n",
            },
            2,
        ),
        (
            {
                **IN_V1,
                "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
            },
            4,
        ),
        ({**IN_V1, "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, None),
        ({}, None),
    ],
    ids=["our own, not those of the slice above", "version 1", "an old kernel does not count", "no files"],
)
def test_kills_for_want_of_memory_are_those_of_our_own_group(
    files: dict[str, str], kills: int | None, tmp_path: Path
) -> None:
    write(tmp_path, files)

    assert Groups(tmp_path).limits().oom_kills == kills


def test_a_path_that_climbs_out_of_the_tree_stays_below_the_mount(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/../../outside\n", "sys/outside/pids.current": "9\n"})

    assert Groups(tmp_path).limits().pids is None


@given(st.text(), st.text())
def test_any_text_in_the_files_gives_a_number_or_nothing(one: str, other: str) -> None:
    parse_oom_kills(f"oom_kill {one}")
    cpus = quota_cpus(one, other)

    assert cpus is None or cpus >= 0
