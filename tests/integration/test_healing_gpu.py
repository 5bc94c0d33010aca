"""A GPU that is lost, unreachable or unused: found by the whole daemon, and never made worse."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.engine.frozen_process import frozen_again
from tests.engine.healing_boxes import ON_THE_GPU, GpuBox, gpu_box
from tests.engine.healing_ground import HealingGround

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory

pytestmark = pytest.mark.timeout(90)

FOUND_S = 40.0  # the card is asked every 5 s; twice the rule's 10 s, and a busy box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[GpuBox]:
    with gpu_box(tmp_path) as made:
        yield made


@pytest.mark.long
def test_an_engine_on_the_cpu_beside_a_well_gpu_is_restarted_twice_and_no_more(
    daemon: DaemonFactory, box: GpuBox
) -> None:
    running = daemon(env=box.env).wait_ready()

    incident = HealingGround(running, {}).wait_closed("cpu_fallback", limit_s=2 * FOUND_S)

    assert (incident["action"], incident["result"]) == ("engine_restarting", "gave_up")
    assert running.process()["generation"] == 3
    health = running.get("/health").json()
    assert (health["status"], health["checks"]["gpu"]["status"]) == ("degraded", "warn")


@pytest.mark.long
def test_an_unreachable_gpu_is_told_with_its_remedy_where_leaving_does_not_help(
    daemon: DaemonFactory, box: GpuBox
) -> None:
    running = seen_well(daemon(ON_THE_GPU, env=box.env))
    answer_newcomers(running, box, "unknown-999")

    incident = HealingGround(running, {}).wait_closed("gpu_unreachable", limit_s=FOUND_S)

    assert (incident["action"], incident["result"]) == ("none", "gave_up")
    assert "nvidia_uvm" in incident["detail"] or "docker restart" in incident["detail"]
    assert running.process()["generation"] == 1


def test_a_lost_gpu_is_told_and_the_engine_left_alone(daemon: DaemonFactory, box: GpuBox) -> None:
    running = seen_well(daemon(ON_THE_GPU, env=box.env))
    box.answer("gpu-lost-15")

    incident = HealingGround(running, {}).wait_closed("gpu_broken", limit_s=FOUND_S)

    assert (incident["action"], incident["result"]) == ("none", "noted")
    assert running.process()["generation"] == 1


@pytest.mark.long
def test_a_frozen_engine_is_not_restarted_while_a_new_one_could_not_open_the_gpu(
    daemon: DaemonFactory, box: GpuBox
) -> None:
    running = seen_well(daemon(ON_THE_GPU, env=box.env))
    ground = HealingGround(running, {})
    answer_newcomers(running, box, "driver-mismatch-18")
    running.wait_for(
        lambda: "driver_mismatch" in json.dumps(running.get("/api/stats").json()), what="the mismatch is seen"
    )

    with frozen_again(ground.engine_pid):
        incident = ground.wait_closed("engine_frozen", limit_s=FOUND_S)

    assert (incident["action"], incident["result"]) == ("continued", "gave_up")
    assert "driver_mismatch forbids" in incident["detail"]
    assert running.process()["generation"] == 1


def answer_newcomers(running: Daemon, box: GpuBox, fault: str) -> None:
    """The driver answers so to who opens it from now on; who has it open is gone."""
    box.answer(fault)
    sources = running.get("/api/stats").json()["gpu_sources"]
    for pid in (one["child_pid"] for one in sources if one["source"] == "nvml"):
        os.kill(pid, signal.SIGKILL)


def seen_well(running: Daemon) -> Daemon:
    """Once the engine is ready and the card has worked."""
    running.wait_ready().wait_for(lambda: state_of(running) == "ok", what="the card answers")
    return running


def state_of(running: Daemon) -> str | None:
    gpus = running.get("/api/stats").json()["gpus"]
    return str(gpus[0]["state"]) if gpus else None
