"""Guards the doctor's checks of device nodes, with real opens by a real child."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.visibility.checks_access import check_nodes
from arasul_supervisor.telemetry.visibility.facts import read_board, read_driver, read_names
from arasul_supervisor.telemetry.visibility.nodes import HANGS, Node, Nodes, read_nodes, try_nodes
from arasul_supervisor.telemetry.visibility.viewpoint import Person
from tests.engine.visibility_ground import NOBODY, ROOT_USER, well_orin, well_pc, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.telemetry.visibility.finding import Finding

NODE = Node("/dev/nvmap", 0o660, 0, 44)
ME = Person(os.geteuid(), os.getegid(), frozenset(os.getgroups()) | {os.getegid()}, os.geteuid() == 0)
HANGING = """
import json, sys, time
print(json.dumps({"path": sys.argv[1], "errno": 0}))
print(json.dumps({"path": sys.argv[2]}), flush=True)
time.sleep(60)
"""


def nodes_of(root: Path, nodes: Nodes | None = None, *, person: Person = ROOT_USER) -> tuple[Finding, ...]:
    driver = read_driver(root, {})
    return check_nodes(
        driver,
        read_board(root),
        nodes or read_nodes(root, driver),
        person,
        users=read_names(root, "passwd"),
        groups=read_names(root, "group"),
    )


def tried(root: Path, person: Person = ME) -> Nodes:
    return try_nodes(root, read_nodes(root, read_driver(root, {})), person, timeout_s=10)


@pytest.mark.parametrize("well_box", [well_pc, well_orin], ids=["pc", "orin"])
def test_nodes_that_a_child_could_open_are_well(well_box: Callable[[Path], Path], tmp_path: Path) -> None:
    well_box(tmp_path)

    found = nodes_of(tmp_path, tried(tmp_path), person=ME)

    assert [one.status for one in found] == ["ok"]


def test_an_older_orin_has_its_control_node_elsewhere(tmp_path: Path) -> None:
    well_orin(tmp_path)
    (tmp_path / "dev/nvgpu/igpu0/ctrl").rename(tmp_path / "dev/nvhost-ctrl-gpu")

    nodes = read_nodes(tmp_path, read_driver(tmp_path, {}))

    assert [node.path for node in nodes.present] == ["/dev/nvmap", "/dev/nvhost-ctrl-gpu"]


def test_a_box_without_a_gpu_needs_no_nodes(tmp_path: Path) -> None:
    assert [one.status for one in nodes_of(tmp_path)] == ["skip"]


@pytest.mark.parametrize(
    ("missing", "cure"),
    [
        (("nvidia-uvm",), "nvidia-modprobe -u"),
        (("nvidia0", "nvidiactl", "nvidia-uvm"), "nvidia-persistenced"),
    ],
    ids=["uvm alone", "all"],
)
def test_missing_nodes_of_a_loaded_driver_are_made_by_its_helper(
    missing: tuple[str, ...], cure: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    for name in missing:
        (tmp_path / "dev" / name).unlink()

    found = nodes_of(tmp_path)

    assert found[0].status == "fail"
    assert all(f"/dev/{name}" in found[0].seen for name in missing)
    assert cure in found[0].advice


def test_a_node_of_a_group_names_the_group_to_join(tmp_path: Path) -> None:
    well_orin(tmp_path)
    write(tmp_path, "etc/group", "root:x:0:\nvideo:x:44:\n")
    write(tmp_path, "etc/passwd", "ollama:x:998:998::/usr/share/ollama:/bin/false\n")

    found = nodes_of(tmp_path, Nodes((NODE,), ()), person=NOBODY)

    assert found[0].status == "fail"
    assert "usermod -aG video ollama" in found[0].advice


def test_a_member_of_the_group_is_let_in() -> None:
    member = replace(NOBODY, gids=frozenset({998, 44}))

    assert (NODE.lets_in(member), NODE.lets_in(NOBODY), NODE.lets_in(ROOT_USER)) == (True, False, True)


def test_an_owner_without_the_right_is_not_let_in_by_the_rights_of_others() -> None:
    assert not Node("/dev/x", 0o066, 998, 0).lets_in(NOBODY)


@pytest.mark.parametrize(
    ("outcome", "in_container", "word"),
    [
        (errno.EPERM, True, "Recreate the container"),
        (errno.EPERM, False, "DeviceAllow"),
        (errno.EIO, False, "EIO"),
        (HANGS, False, "hangs in the driver"),
    ],
    ids=["a container lost its device", "a service may not", "a dead card", "a hung driver"],
)
def test_an_open_that_fails_though_the_mode_allows_it_is_named(
    outcome: int, in_container: bool, word: str, tmp_path: Path
) -> None:
    well_orin(tmp_path)
    write(tmp_path, ".dockerenv" if in_container else "etc/nothing")

    found = nodes_of(tmp_path, Nodes((replace(NODE, outcome=outcome),), ()), person=ROOT_USER)

    assert found[0].status == "fail"
    assert word in found[0].seen + found[0].advice


def test_what_this_shell_may_not_open_is_not_held_against_the_engine(tmp_path: Path) -> None:
    well_orin(tmp_path)
    nodes = Nodes((replace(NODE, outcome=errno.EACCES),), (), is_tried_as_engine=False)

    found = nodes_of(tmp_path, nodes, person=replace(NOBODY, gids=frozenset({44})))

    assert found[0].status == "ok"


def test_nodes_that_nobody_could_try_are_a_warning(tmp_path: Path) -> None:
    well_orin(tmp_path)

    found = nodes_of(tmp_path, Nodes((NODE,), ()), person=ROOT_USER)

    assert found[0].status == "warn"


def test_a_child_opens_as_the_engines_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: opening as another user, which only root may become")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        os.chmod(folder, 0o755)
        well_orin(Path(folder))
        os.chmod(f"{folder}/dev/nvmap", 0o600)

        nodes = tried(Path(folder), NOBODY)

    assert [node.outcome for node in nodes.present] == [errno.EACCES, 0]
    assert nodes.is_tried_as_engine


def test_an_open_that_hangs_is_known_by_name_and_given_up_in_time(tmp_path: Path) -> None:
    well_pc(tmp_path)
    nodes = read_nodes(tmp_path, read_driver(tmp_path, {}))
    paths = [str(tmp_path / node.path.lstrip("/")) for node in nodes.present]
    began = time.monotonic()

    command = (sys.executable, "-I", "-c", HANGING, *paths)
    after = try_nodes(tmp_path, nodes, ME, timeout_s=1.0, command=command)

    assert time.monotonic() - began < 5
    assert [node.outcome for node in after.present] == [0, HANGS, None]


def test_a_child_that_tells_nothing_sensible_leaves_the_nodes_untried(tmp_path: Path) -> None:
    well_pc(tmp_path)
    nodes = read_nodes(tmp_path, read_driver(tmp_path, {}))

    after = try_nodes(tmp_path, nodes, ME, timeout_s=5, command=("/bin/echo", "[not json"))

    assert [node.outcome for node in after.present] == [None, None, None]
