"""Memory that runs out: the model that rested longest goes first, the one that answers stays, and the end is noted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_boxes import MemoryBox, memory_box
from tests.engine.healing_ground import HealingGround, start_fake
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.store import ModelFiles

pytestmark = pytest.mark.timeout(90)

MODES = "runners,family=0.34;tokens,s=0.02"
SHORT_OF, ENOUGH = 600 << 20, 8 << 30
FOUND_S = 25.0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[MemoryBox]:
    with memory_box(tmp_path) as made:
        yield made


@pytest.fixture
def ground(
    box: MemoryBox,
    daemon: DaemonFactory,
    fake_engine: FakeEngine,
    tmp_path: Path,
    model_files: ModelFiles,
) -> HealingGround:
    """A ready daemon over the fake engine with three models, on that box."""
    names = ("tiny", "other", "small")
    return start_fake(daemon, fake_engine, tmp_path, model_files, MODES, models=names, env=box.env)


def test_the_model_that_rested_longest_goes_first_and_recovery_ends_it(
    box: MemoryBox, ground: HealingGround
) -> None:
    with ground.answering("other") as client:
        ground.load("small")
        time.sleep(3)  # what is rested longer is told by looks
        ground.load("tiny")

        box.leave_available(SHORT_OF)
        wait_until(lambda: "small:latest" not in ground.listed(), limit_s=FOUND_S, what="one goes")
        assert set(ground.listed()) == {"tiny:latest", "other:latest"}
        box.leave_available(ENOUGH)
        incident = ground.wait_closed("memory_low", limit_s=FOUND_S)

        assert set(ground.listed()) == {"tiny:latest", "other:latest"}
        assert (incident["action"], incident["result"], client.errors) == ("unloaded", "cured", [])
    assert ground.daemon.process()["generation"] == 1
