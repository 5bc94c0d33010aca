"""Every row of the fault table that the fake engine plays: found, cured by the gentlest means, noted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_play import play, prepare, problems
from tests.engine.healing_rows import REAL, ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.healing_rows import Row
    from tests.engine.store import ModelFiles

pytestmark = pytest.mark.timeout(90)


QUICK = ("poison model",)
CHOSEN = [
    pytest.param(row, id=str(row), marks=() if row.name in QUICK else pytest.mark.long)
    for row in ROWS
    if row.engine != REAL
]


@pytest.mark.parametrize("row", CHOSEN)
def test_the_gentlest_cure_that_works_is_found_in_time(
    row: Row,
    daemon: DaemonFactory,
    fake_engine: FakeEngine,
    engine_binary: Path,
    tmp_path: Path,
    model_files: ModelFiles,
) -> None:
    ground = prepare(
        row, daemon, engine=engine_binary, fake=fake_engine, folder=tmp_path, model_files=model_files
    )

    seen = play(row, ground)

    assert problems(row, seen) == []
