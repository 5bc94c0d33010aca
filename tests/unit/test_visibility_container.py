"""Guards the doctor's checks of container and Docker, and through whose eyes it looks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.visibility.checks_access import check_cgroup_driver, check_container
from arasul_supervisor.telemetry.visibility.facts import read_board, read_docker, read_driver
from arasul_supervisor.telemetry.visibility.nodes import read_nodes
from arasul_supervisor.telemetry.visibility.viewpoint import engine_viewpoint, own_viewpoint
from tests.engine.visibility_ground import container, well_orin, well_pc, write

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.telemetry.visibility.finding import Finding

ID = "4f1c9a2b7d3e"
STATUS = "Uid:\t998\t998\t998\t998\nGid:\t998\t998\t998\t998\nGroups:\t44 110 \nCapEff:\t0000000000000000\n"


def container_of(root: Path, **environ: str) -> Finding:
    driver = read_driver(root, {})
    return check_container(driver, read_board(root), read_nodes(root, driver), environ)


def cgroup_of(root: Path) -> Finding:
    return check_cgroup_driver(read_driver(root, {}), read_board(root), read_docker(root))


def test_a_host_is_no_container(tmp_path: Path) -> None:
    assert container_of(well_pc(tmp_path)).status == "skip"


def test_a_container_with_its_nodes_is_well_even_where_cdi_says_void(tmp_path: Path) -> None:
    well_pc(tmp_path)
    container(tmp_path)

    assert container_of(tmp_path, NVIDIA_VISIBLE_DEVICES="void").status == "ok"


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({}, "was started without one"),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, "was started without one"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, "was started without one"),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, "no GPU"),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, "nobody obeyed"),
    ],
    ids=["unset", "empty", "void", "none", "asked in vain"],
)
def test_a_container_without_nodes_says_how_it_came_to_that(
    environ: dict[str, str], word: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    container(tmp_path)
    (tmp_path / "dev/nvidia0").unlink()

    found = container_of(tmp_path, **environ)

    assert (found.status, word in found.seen, found.advice != "") == ("fail", True, True)


@pytest.mark.parametrize(
    ("capabilities", "status"),
    [("utility", "fail"), ("compute,utility", "ok"), ("all", "ok"), ("", "ok")],
    ids=["no compute", "compute", "all", "unset"],
)
def test_capabilities_without_compute_leave_the_library_out(
    capabilities: str, status: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    container(tmp_path)
    (tmp_path / "usr/lib/x86_64-linux-gnu/libcuda.so.1").unlink()

    assert container_of(tmp_path, NVIDIA_DRIVER_CAPABILITIES=capabilities).status == status


# the cgroup driver


@pytest.mark.parametrize(
    ("settings", "is_v2", "status"),
    [
        ({"exec-opts": ["native.cgroupdriver=cgroupfs"]}, True, "ok"),
        ({"exec-opts": ["native.cgroupdriver=systemd"]}, False, "warn"),
        ({}, True, "warn"),
        ({}, False, "ok"),
    ],
    ids=["cgroupfs", "systemd", "the default of v2", "the default of v1"],
)
def test_the_systemd_driver_is_the_trap(
    settings: dict[str, object], is_v2: bool, status: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    write(tmp_path, "etc/docker/daemon.json", json.dumps(settings))
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers" if is_v2 else "sys/fs/cgroup/memory/tasks")

    found = cgroup_of(tmp_path)

    assert (found.status, "daemon-reload" in found.seen) == (status, status == "warn")


def test_a_daemon_json_that_is_none_is_said(tmp_path: Path) -> None:
    write(well_pc(tmp_path), "etc/docker/daemon.json", "{,}")

    assert (cgroup_of(tmp_path).status, "no JSON" in cgroup_of(tmp_path).seen) == ("warn", True)


def test_a_host_without_docker_has_no_trap(tmp_path: Path) -> None:
    assert cgroup_of(well_pc(tmp_path)).status == "skip"


def test_a_jetsons_docker_needs_the_runtime_nvidia(tmp_path: Path) -> None:
    well_orin(tmp_path)
    write(tmp_path, "etc/docker/daemon.json", '{"runtimes": {}}')
    without = cgroup_of(tmp_path)
    write(
        tmp_path, "etc/docker/daemon.json", '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}'
    )

    assert (without.status, "runtime nvidia" in without.seen) == ("warn", True)
    assert cgroup_of(tmp_path).status == "ok"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"0::/system.slice/docker-{ID}.scope", "warn"),
        (f"4:memory:/docker/{ID}", "ok"),
        ("0::/", "skip"),
    ],
    ids=["a scope of systemd", "a group of cgroupfs", "hidden by its namespace"],
)
def test_inside_a_container_the_driver_shows_in_the_groups_path(
    path: str, status: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    container(tmp_path)
    write(tmp_path, "proc/self/cgroup", f"{path}\n")

    assert cgroup_of(tmp_path).status == status


# whose eyes


def test_the_engines_own_environment_and_groups_count(tmp_path: Path) -> None:
    write(tmp_path, "7/status", STATUS)
    write(tmp_path, "7/environ", "MARK=here:1\0CUDA_VISIBLE_DEVICES=-1\0")

    view = engine_viewpoint(7, marker="MARK", environ={"MARK": "mine"}, proc=tmp_path)

    assert (view.pid, view.environ["CUDA_VISIBLE_DEVICES"]) == (7, "-1")
    assert (view.person.uid, set(view.person.gids), view.person.is_almighty) == (998, {998, 44, 110}, False)


def test_a_pid_of_another_namespace_is_not_taken_for_the_engine(tmp_path: Path) -> None:
    write(tmp_path, "7/status", STATUS)
    write(tmp_path, "7/environ", "HOME=/root\0")
    write(tmp_path, "7/cmdline", "bash\0")

    view = engine_viewpoint(7, marker="MARK", environ={"A": "b"}, command="/usr/bin/ollama", proc=tmp_path)

    assert (view.pid, view.environ, "docker exec" in view.sentence) == (None, {"A": "b"}, True)


def test_an_engine_whose_environment_is_closed_to_us_still_lends_its_user(tmp_path: Path) -> None:
    write(tmp_path, "7/status", STATUS)
    write(tmp_path, "7/cmdline", "/usr/bin/ollama\0serve\0")

    view = engine_viewpoint(7, marker="MARK", environ={"A": "b"}, command="/usr/bin/ollama", proc=tmp_path)

    assert (view.pid, view.person.uid, view.environ) == (7, 998, {"A": "b"})
    assert not view.has_engine_environ and "this shell" in view.sentence


def test_without_an_engine_this_process_counts() -> None:
    view = own_viewpoint({"A": "b"}, because="No daemon answers.")

    assert (view.pid, view.person.uid, view.environ) == (None, os.geteuid(), {"A": "b"})
