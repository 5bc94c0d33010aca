"""A load may take as long as it takes, on both generations: with limits of four seconds nothing is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_ground import start_fake

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.store import ModelFiles


@pytest.mark.long
@pytest.mark.parametrize("family", ["0.24", "0.34"])
def test_a_load_that_reads_for_half_a_minute_is_left_alone(
    daemon: DaemonFactory, fake_engine: FakeEngine, tmp_path: Path, model_files: ModelFiles, family: str
) -> None:
    modes = f"runners,family={family},load_s=30;tokens,s=0.02"
    ground = start_fake(daemon, fake_engine, tmp_path, model_files, modes)

    ground.load("tiny")

    assert ground.incidents() == []
