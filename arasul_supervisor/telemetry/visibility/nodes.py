"""The device nodes that CUDA opens, who may open them, and what happens to one who tries."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in
from arasul_supervisor.telemetry.gpu.bounded_child import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.telemetry.visibility.facts import Driver
    from arasul_supervisor.telemetry.visibility.viewpoint import Person

HANGS: Final = -1  # in place of an error's number
_PROGRAM: Final = Path(__file__).with_name("open_program.py")
_CARD_PREFIX: Final = "nvidia"


@dataclass(frozen=True, slots=True)
class Node:
    """One device node that is there: its path for people, permission bits, owners, and what an open of it gave.

    `outcome`: 0 it opened, HANGS, an error's number, None nobody tried.
    """

    path: str
    mode: int
    uid: int
    gid: int
    outcome: int | None = None

    def lets_in(self, person: Person) -> bool:
        """Whether owner, group and mode let that person read and write."""
        if person.is_almighty:
            return True
        shift = 6 if person.uid == self.uid else 3 if self.gid in person.gids else 0
        return (self.mode >> shift) & 0o6 == 0o6


@dataclass(frozen=True, slots=True)
class Nodes:
    """What of the needed nodes is there. `missing` names the others; `is_tried_as_engine`: opened as its user."""

    present: tuple[Node, ...]
    missing: tuple[str, ...]
    is_tried_as_engine: bool = True


def read_nodes(root: Path, driver: Driver) -> Nodes:
    """The nodes that this kind of GPU needs; looks at them, opens none."""
    wanted = _of_nvgpu(root) if driver.is_nvgpu else _of_nvidia(root)
    present: list[Node] = []
    missing: list[str] = []
    for path in wanted:
        try:
            status = os.stat(root / path)
        except OSError:
            missing.append(f"/{path}")
        else:
            present.append(Node(f"/{path}", status.st_mode & 0o777, status.st_uid, status.st_gid))
    return Nodes(tuple(present), tuple(missing))


def try_nodes(
    root: Path,
    nodes: Nodes,
    person: Person,
    *,
    timeout_s: float,
    command: tuple[str, ...] | None = None,
) -> Nodes:
    """The same nodes with what an open gave, tried in a child as that person where we may become them.

    :param timeout_s: for all of them; one that hangs ends it, and those after it stay untried
    :param command: what is run instead of our own program
    """
    if not nodes.present:
        return nodes
    identity, is_as_engine = _identity(person)
    paths = [str(root / node.path.lstrip("/")) for node in nodes.present]
    outcomes = _outcomes(command or (sys.executable, "-I", str(_PROGRAM), *identity, *paths), timeout_s)
    present = tuple(
        Node(node.path, node.mode, node.uid, node.gid, outcomes.get(path))
        for node, path in zip(nodes.present, paths, strict=True)
    )
    return Nodes(present, nodes.missing, is_as_engine)


def _of_nvidia(root: Path) -> list[str]:
    numbers = [
        name.removeprefix(_CARD_PREFIX)
        for name in names_in(root / "dev")
        if name.startswith(_CARD_PREFIX) and name.removeprefix(_CARD_PREFIX).isdigit()
    ]
    cards = sorted(numbers, key=int) or ["0"]
    return [*(f"dev/{_CARD_PREFIX}{number}" for number in cards), "dev/nvidiactl", "dev/nvidia-uvm"]


def _of_nvgpu(root: Path) -> list[str]:
    """The memory allocator and the GPU's control node, which lies at one place or the other by release."""
    newer = root / "dev/nvgpu/igpu0/ctrl"
    return ["dev/nvmap", "dev/nvgpu/igpu0/ctrl" if newer.exists() else "dev/nvhost-ctrl-gpu"]


def _identity(person: Person) -> tuple[tuple[str, str, str], bool]:
    """What our program needs to become that person: nothing when we are; only root can become another."""
    if os.geteuid() == person.uid:
        return ("", "", ""), frozenset(os.getgroups()) | {os.getegid()} == person.gids
    if os.geteuid() != 0:
        return ("", "", ""), False
    groups = ",".join(str(number) for number in sorted(person.gids))
    return (str(person.uid), str(person.gid), groups), True


def _outcomes(command: Sequence[str], timeout_s: float) -> Mapping[str, int]:
    outcomes: dict[str, int] = {}
    try:
        with lines_of(tuple(command), timeout_s=timeout_s) as lines:
            for line in lines:
                told = json.loads(line)
                outcomes[told["path"]] = told.get("errno", HANGS)
    except (OSError, ValueError, KeyError):  # no child, or one that died in the middle of a line
        return outcomes
    return outcomes
