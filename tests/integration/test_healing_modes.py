"""What ARASUL_HEAL allows: `observe` writes and touches nothing, `off` knows crashes alone; and the way of a poison."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.frozen_process import frozen
from tests.engine.healing_ground import HealingGround, start_fake
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.store import ModelFiles

    Start = Callable[..., HealingGround]

pytestmark = pytest.mark.timeout(60)

WELL = "runners,family=0.34;tokens,s=0.02"
SEEN_S = 2.0


@pytest.fixture
def start(daemon: DaemonFactory, fake_engine: FakeEngine, tmp_path: Path, model_files: ModelFiles) -> Start:
    """`start(modes, models, heal="off")`: a ready daemon over the fake engine."""

    def begin(modes: str = WELL, *models: str, heal: str = "act") -> HealingGround:
        env = {"ARASUL_HEAL": heal}
        names = models or ("tiny",)
        return start_fake(daemon, fake_engine, tmp_path, model_files, modes, models=names, env=env)

    return begin


def test_observe_writes_what_it_would_have_done_and_touches_nothing(start: Start) -> None:
    ground = start(heal="observe")
    runner = ground.load("tiny")
    time.sleep(SEEN_S)
    with frozen(runner):
        incident = ground.wait_closed("runner_frozen", limit_s=15)
        time.sleep(SEEN_S)

        assert (incident["action"], incident["result"]) == ("continued", "observed")
        assert state_of(runner) == "T"


@pytest.mark.long
def test_off_leaves_a_frozen_runner_alone_and_says_nothing(start: Start) -> None:
    ground = start(heal="off")
    runner = ground.load("tiny")
    with frozen(runner):
        time.sleep(8)  # observe has told by then

        assert (ground.incidents(), state_of(runner)) == ([], "T")


def test_off_knows_of_a_crash_and_loads_again_what_was_loaded(start: Start) -> None:
    ground = start(heal="off")
    ground.load("tiny")
    time.sleep(SEEN_S)

    os.kill(ground.engine_pid, signal.SIGKILL)

    assert ground.wait_closed("engine_crashed", limit_s=15)["result"] == "cured"
    wait_until(lambda: ground.listed() == ["tiny:latest"], limit_s=10, what="it is loaded again")


@pytest.fixture
def poisoned(start: Start) -> HealingGround:
    """Two crashes of the engine later, each in a load of `tiny`; `alias` has its weights too, `other` was loaded."""
    ground = start(f"{WELL};poison,model=tiny:latest", "tiny", "alias", "other")
    for generation in (1, 2):
        ground.load("other")
        time.sleep(SEEN_S)
        with ground.waiting("tiny") as client:
            wait_until(client.is_over.is_set, limit_s=10, what="the client is told")
        ground.daemon.wait_for(
            lambda: ground.daemon.process()["generation"] > generation,  # noqa: B023  # called in this turn only
            what="the next engine",
        ).wait_ready()
    return ground


def test_a_poison_is_quarantined_under_every_name_and_the_others_come_back(poisoned: HealingGround) -> None:
    wait_until(lambda: quarantined(poisoned.daemon), limit_s=10, what="the quarantine")
    wait_until(lambda: poisoned.listed() == ["other:latest"], limit_s=10, what="other is loaded again")

    assert quarantined(poisoned.daemon) == ["alias:latest", "tiny:latest"]
    assert poisoned.daemon.process()["generation"] == 3


def test_a_quarantine_is_lifted_by_the_command_line(poisoned: HealingGround) -> None:
    wait_until(lambda: quarantined(poisoned.daemon), limit_s=10, what="the quarantine")
    command = [sys.executable, "-m", "arasul_supervisor", "quarantine", "lift", "tiny:latest"]

    lifted = subprocess.run(
        [*command, "--url", poisoned.daemon.url],
        env=poisoned.daemon.environment,
        cwd=poisoned.daemon.folder,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )

    assert lifted.returncode == 0, lifted.stderr
    assert quarantined(poisoned.daemon) == ["alias:latest"]


def quarantined(daemon: Daemon) -> list[str]:
    return sorted(one["name"] for one in daemon.get("/api/models/quarantine").json()["quarantined"])


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
