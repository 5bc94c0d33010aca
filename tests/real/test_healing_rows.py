"""Every row of the fault table that the real engine can be brought into: found, cured by the gentlest means, noted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_play import ground as ground
from tests.engine.healing_play import play, problems
from tests.engine.healing_rows import REAL, ROWS

if TYPE_CHECKING:
    from tests.engine.healing_ground import HealingGround
    from tests.engine.healing_rows import Row


pytestmark = pytest.mark.timeout(120)

QUICK = ("compute stuck", "runner stopped, busy", "engine killed")
CHOSEN = [
    pytest.param(row, id=str(row), marks=() if row.name in QUICK else pytest.mark.long)
    for row in ROWS
    if row.engine == REAL
]


@pytest.mark.parametrize("row", CHOSEN)
def test_the_gentlest_cure_that_works_is_found_in_time(row: Row, ground: HealingGround) -> None:
    seen = play(row, ground)

    assert problems(row, seen) == []
