"""Guards CONTRACT §4 pulls: whatever fails on the way, each ends complete, and no byte comes twice without need.

`ARASUL_STORM_SEED` repeats a storm, `ARASUL_STORM_REPORT` names a file for what it cost.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import pick_free_port
from tests.engine.pull_storm import Pull, Storm
from tests.engine.pull_storm_account import account_of
from tests.engine.pull_storm_end import own_lines, report, wrongs_at_the_end
from tests.engine.registry import start_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory

ENVIRONMENT = {
    "ARASUL_PULLS": "3",
    "ARASUL_PULL_STALL": "2",
    "ARASUL_STABLE_SECONDS": "0",  # an engine that is killed is started again at once
    "ARASUL_RESTORE": "off",
}


@pytest.fixture
def seed() -> int:
    """What decides over the events of a storm and their order."""
    drawn = int(os.environ.get("ARASUL_STORM_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ARASUL_STORM_SEED={drawn}")
    return drawn


@pytest.fixture
def storm_of(daemon: DaemonFactory, engine_binary: Path, seed: int) -> Iterator[Callable[[int], Storm]]:
    """`storm_of(20)`: so many pulls that wait to be asked for, at a ready daemon with an empty store."""
    registry = start_registry(pick_free_port())

    def make(n_pulls: int) -> Storm:
        ready = daemon(engine=engine_binary, env=ENVIRONMENT).wait_ready(limit_s=60)
        return Storm(ready, registry, random.Random(seed), [Pull(f"m{n}") for n in range(n_pulls)])

    yield make
    registry.stop()


def assert_all_came_through(storm: Storm, seed: int) -> None:
    """Every model is there and whole, and no byte was fetched twice without need; prints what it cost."""
    wrongs = wrongs_at_the_end(storm)
    storm.registry.stop()
    account = account_of(storm.registry.ranges(), storm.sizes, storm.killings)
    print(report(storm, account, seed), own_lines(storm), sep="\n")
    assert not wrongs, "\n".join(wrongs)
    assert not account.without_need, "\n".join(account.without_need)


def test_twenty_pulls_end_complete_whatever_fails(storm_of: Callable[[int], Storm], seed: int) -> None:
    storm = storm_of(20)
    storm.registry.switches.bytes_per_s = 3_000_000
    storm.rage(every_s=0.6, limit_s=150)
    assert_all_came_through(storm, seed)


@pytest.mark.long
def test_two_hundred_pulls_end_complete_whatever_fails(storm_of: Callable[[int], Storm], seed: int) -> None:
    storm = storm_of(200)
    storm.n_large = 2
    storm.registry.switches.bytes_per_s = 8_000_000
    storm.rage(every_s=0.6, limit_s=1800)
    assert_all_came_through(storm, seed)
