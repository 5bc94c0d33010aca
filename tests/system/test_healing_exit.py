"""A GPU that does not let anybody in any more: the daemon leaves with 72, so that its container is started anew."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_boxes import ON_THE_GPU, GpuBox, gpu_box
from tests.engine.processes import wait_until
from tests.system.ground.namespace import namespaces as namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon
    from tests.system.ground.namespace import Namespace, NamespaceFactory

LEAVES_S = 45.0  # the card is asked every 5 s, and must have been out of reach for 10 s


@pytest.fixture
def box(tmp_path: Path) -> Iterator[GpuBox]:
    with gpu_box(tmp_path) as made:
        yield made


def test_pid_1_leaves_with_72_and_has_noted_why(namespaces: NamespaceFactory, box: GpuBox) -> None:
    home = namespaces(ON_THE_GPU, env=box.env)
    home.wait_ready()
    wait_until(lambda: _sources(home.daemon), limit_s=15, what="the card answers")

    box.answer("unknown-999")
    _end_gpu_child(home)

    assert home.outer.wait(LEAVES_S) == 72
    assert home.daemon.survivors() == {}
    assert [line["exit_code"] for line in home.events("leaving_for_the_gpu")] == [72]
    incident = _incident_on_disk(home.daemon.state_dir)
    assert (incident["kind"], incident["action"]) == ("gpu_unreachable", "exit")


def _sources(daemon: Daemon) -> list[int]:
    """Pids, in the namespace, of the children that ask a card that answers."""
    seen = daemon.get("/api/stats").json()
    is_well = [gpu["state"] for gpu in seen["gpus"]] == ["ok"]
    return [one["child_pid"] for one in seen["gpu_sources"] if one["child_pid"]] if is_well else []


def _end_gpu_child(home: Namespace) -> None:
    """Who has the card open is gone; who comes next gets the driver's refusal."""
    for pid in _sources(home.daemon):
        os.kill(home.outside(pid), signal.SIGKILL)


def _incident_on_disk(state_dir: Path) -> dict[str, object]:
    (file,) = (state_dir / "incidents").glob("*.json")
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return found
