"""A runner that ends by itself: nothing is to be cured, and it is noted, at rest and in a request."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_ground import HealingGround, start_real
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.store import ModelFiles

SEEN_S = 2.0
NOTED_S = 15.0


@pytest.fixture
def ground(
    daemon: DaemonFactory, engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> HealingGround:
    return start_real(daemon, engine_binary, tmp_path, model_files, models=("tiny",))


@pytest.mark.long
def test_a_runner_that_dies_at_rest_is_noted_though_nobody_tells_of_it(ground: HealingGround) -> None:
    runner = ground.load("tiny")
    time.sleep(SEEN_S)

    os.kill(runner, signal.SIGKILL)

    incident = ground.wait_closed("runner_died", limit_s=NOTED_S)
    assert (incident["action"], incident["result"], incident["model"]) == ("none", "noted", "tiny:latest")
    assert ground.load("tiny") != runner


def test_a_runner_that_dies_in_a_request_is_noted_once(ground: HealingGround) -> None:
    with ground.answering("tiny") as client:
        time.sleep(SEEN_S)
        os.kill(ground.runner_of("tiny"), signal.SIGKILL)
        wait_until(client.is_over.is_set, limit_s=10, what="the client is told")

    ground.load("tiny")  # Ollama writes of the death now

    incident = ground.wait_closed("runner_died", limit_s=NOTED_S)
    assert (incident["action"], incident["result"], incident["model"]) == ("none", "noted", "tiny:latest")
    time.sleep(3 * SEEN_S)
    assert [one["kind"] for one in ground.incidents()] == ["runner_died"]
