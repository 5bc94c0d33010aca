"""Where the kernel counts its out-of-memory kills, and what is read there; the trees are as proc(5) shows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.supervision.oom import OomCounter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "36 35 0:31 {root} /sys/fs/cgroup/memory rw,nosuid shared:15 - cgroup cgroup rw,memory"
OTHER_V1 = "37 35 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"


class Box:
    """A file system tree that stands for a box's /proc and /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counters: list[OomCounter] = []

    def write(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def counter(self) -> OomCounter:
        self.counters.append(OomCounter(str(self.root)))
        return self.counters[-1]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    tree = Box(tmp_path)
    yield tree
    for counter in tree.counters:
        counter.close()


def events(kills: int) -> str:
    return f"low 0\nhigh 0\nmax 7\noom 1\noom_kill {kills}\noom_group_kill 0\n"


def control(kills: int) -> str:
    return f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


def test_a_kill_in_our_v2_group_is_counted(box: Box) -> None:
    box.write("/proc/self/cgroup", "0::/system.slice/arasul-supervisor.service\n")
    box.write("/proc/self/mountinfo", V2_MOUNT.format(root="/") + "\n")
    path = "/sys/fs/cgroup/system.slice/arasul-supervisor.service/memory.events"
    box.write(path, events(2))
    counter = box.counter()
    box.write(path, events(3))
    assert counter.rise() == 1


def test_a_kill_in_our_v1_group_is_counted(box: Box) -> None:
    box.write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/ab12\n0::/\n")
    box.write("/proc/self/mountinfo", f"{OTHER_V1}\n{V1_MOUNT.format(root='/')}\n")
    box.write("/sys/fs/cgroup/memory/docker/ab12/memory.oom_control", control(0))
    counter = box.counter()
    box.write("/sys/fs/cgroup/memory/docker/ab12/memory.oom_control", control(2))
    assert counter.rise() == 2


@pytest.mark.parametrize(
    ("group", "root"),
    [
        pytest.param("/docker/ab12", "/docker/ab12", id="the host's names, our group mounted"),
        pytest.param("/", "/", id="names of its own"),
        pytest.param("/", "/../../docker/ab12", id="a mount from outside the names"),
    ],
)
def test_in_a_container_the_counter_lies_at_the_mount_point(box: Box, group: str, root: str) -> None:
    box.write("/proc/self/cgroup", f"4:memory:{group}\n")
    box.write("/proc/self/mountinfo", V1_MOUNT.format(root=root) + "\n")
    box.write("/sys/fs/cgroup/memory/memory.oom_control", control(0))
    counter = box.counter()
    box.write("/sys/fs/cgroup/memory/memory.oom_control", control(1))
    assert counter.rise() == 1


def test_without_a_group_that_counts_the_whole_box_is_looked_at(box: Box) -> None:
    box.write("/proc/self/cgroup", "0::/\n")
    box.write("/proc/self/mountinfo", V2_MOUNT.format(root="/") + "\n")
    box.write("/proc/vmstat", "pgfault 12\noom_kill 5\n")
    counter = box.counter()
    box.write("/proc/vmstat", "pgfault 99\noom_kill 6\n")
    assert counter.rise() == 1


def test_a_group_file_of_an_old_kernel_without_the_count_is_passed_over(box: Box) -> None:
    box.write("/proc/self/cgroup", "4:memory:/\n")
    box.write("/proc/self/mountinfo", V1_MOUNT.format(root="/") + "\n")
    box.write("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    box.write("/proc/vmstat", "oom_kill 0\n")
    counter = box.counter()
    box.write("/proc/vmstat", "oom_kill 1\n")
    assert counter.rise() == 1


def test_where_nothing_counts_nothing_is_claimed(box: Box) -> None:
    assert box.counter().rise() == 0


@pytest.mark.parametrize(
    "text", ["", "oom_kill\n", "oom_kill many\n", "oom_kill -3\n", "\xff\xfe\n", "a b c\n" * 9]
)
def test_garbage_in_a_counter_is_no_kill(box: Box, text: str) -> None:
    box.write("/proc/vmstat", "oom_kill 4\n")
    counter = box.counter()
    box.write("/proc/vmstat", text)
    assert counter.rise() == 0


@pytest.mark.parametrize(
    "text", ["", "4\n", "no line of a mount\n", "36 35 0:31 /\n", " - \n", "a b c d e - cgroup\n"]
)
def test_garbage_in_the_tables_of_groups_leaves_the_count_of_the_box(box: Box, text: str) -> None:
    box.write("/proc/self/cgroup", text)
    box.write("/proc/self/mountinfo", text)
    box.write("/proc/vmstat", "oom_kill 0\n")
    counter = box.counter()
    box.write("/proc/vmstat", "oom_kill 1\n")
    assert counter.rise() == 1


def test_a_kill_is_told_once(box: Box) -> None:
    box.write("/proc/vmstat", "oom_kill 0\n")
    counter = box.counter()
    box.write("/proc/vmstat", "oom_kill 1\n")
    assert (counter.rise(), counter.rise()) == (1, 0)


def test_a_group_that_others_share_is_not_ours_alone(box: Box) -> None:
    box.write("/proc/self/cgroup", "0::/shared\n")
    box.write("/proc/self/mountinfo", V2_MOUNT.format(root="/") + "\n")
    box.write("/sys/fs/cgroup/shared/memory.events", events(0))
    box.write("/sys/fs/cgroup/shared/cgroup.procs", f"{os.getpid()}\n1\n")
    assert not box.counter().is_ours_alone()


def test_a_group_with_nobody_but_us_is_ours_alone(box: Box) -> None:
    box.write("/proc/self/cgroup", "0::/own\n")
    box.write("/proc/self/mountinfo", V2_MOUNT.format(root="/") + "\n")
    box.write("/sys/fs/cgroup/own/memory.events", events(0))
    box.write("/sys/fs/cgroup/own/cgroup.procs", f"{os.getpid()}\n")
    assert box.counter().is_ours_alone()
