"""Guards the oracle of the storm of pulls: what counts as a byte that was fetched twice without need."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.pull_storm_account import Account, Killing, account_of
from tests.engine.registry_wire import Served

SIZES = {"sha256:a": 1000}
NO_KILLING: tuple[Killing, ...] = ()


def fetched(first: int, sent_bytes: int, ended: str, began_s: float, ended_s: float, **more: Any) -> Served:
    """A range of blob a, of which so many bytes were sent; Any: whatever Served has."""
    told = {"status": 206, "ended": ended, "at_mono": (began_s, ended_s), **more}
    return Served("GET", "/v2/library/m/blobs/sha256:a", first, 999, sent_bytes, **told)


def surplus(account: Account) -> dict[str, int]:
    """What was fetched twice, by its reason, without the zeros."""
    reasons = {
        "sigkill": account.by_sigkill_bytes,
        "reset": account.by_reset_bytes,
        "stall": account.by_stall_bytes,
        "on the way": account.on_the_way_bytes,
        "no need": account.without_need_bytes,
    }
    return {reason: size for reason, size in reasons.items() if size}


@pytest.mark.parametrize(
    ("ranges", "killings", "expected"),
    [
        pytest.param([fetched(0, 1000, "whole", 0, 1)], NO_KILLING, {}, id="once"),
        pytest.param(
            [fetched(0, 400, "dropped", 0, 1), fetched(400, 600, "whole", 2, 3)], NO_KILLING, {}, id="resumed"
        ),
        pytest.param(
            [fetched(0, 400, "dropped", 0, 1), fetched(0, 1000, "whole", 2, 3)],
            NO_KILLING,
            {"no need": 400},
            id="begun anew after a drop",
        ),
        pytest.param(
            [fetched(0, 1000, "whole", 0, 1), fetched(0, 1000, "whole", 9, 10)],
            NO_KILLING,
            {"no need": 1000},
            id="a whole blob once more",
        ),
        pytest.param(
            [fetched(0, 400, "reset", 0, 1), fetched(0, 1000, "whole", 2, 3)],
            NO_KILLING,
            {"reset": 400},
            id="a reset",
        ),
        pytest.param(
            [fetched(0, 400, "stalled", 0, 31), fetched(0, 1000, "whole", 31, 32)],
            NO_KILLING,
            {"stall": 400},
            id="Ollama's own stall",
        ),
        pytest.param(
            [fetched(0, 400, "stalled", 0, 5), fetched(0, 1000, "whole", 6, 7)],
            NO_KILLING,
            {"no need": 400},
            id="a stall that we ended sooner",
        ),
        pytest.param(
            [fetched(0, 400, "left", 0, 1), fetched(350, 650, "whole", 2, 3)],
            NO_KILLING,
            {"on the way": 50},
            id="sent and not read",
        ),
        pytest.param(
            [fetched(0, 400, "left", 0, 1), fetched(0, 1000, "whole", 2, 3)],
            [Killing("engine", 0.9, 0.95)],
            {"sigkill": 400},
            id="a kill in flight",
        ),
        pytest.param(
            [
                fetched(0, 400, "dropped", 0, 1),
                fetched(400, 100, "left", 5, 6),
                fetched(0, 1000, "whole", 7, 8),
            ],
            [Killing("daemon", 5.9, 6.0)],
            {"sigkill": 100, "no need": 400},
            id="a kill forgets the part in flight and not what was noted before",
        ),
        pytest.param(
            [
                fetched(0, 500, "whole", 0, 1),
                fetched(500, 500, "whole", 0, 9),
                fetched(0, 1000, "whole", 10, 11),
            ],
            [Killing("engine", 9.1, 9.2)],
            {"sigkill": 1000},
            id="a kill between the last note and the name of the blob",
        ),
        pytest.param(
            [fetched(0, 400, "dropped", 0, 1), fetched(0, 1000, "whole", 2, 3)],
            [Killing("engine", 5.0, 5.1)],
            {"no need": 400},
            id="a kill that came later explains nothing",
        ),
        pytest.param(
            [fetched(0, 4, "whole", 0, 1, status=503), fetched(0, 1000, "whole", 2, 3)],
            NO_KILLING,
            {},
            id="a refusal brings no bytes of the blob",
        ),
    ],
)
def test_bytes_that_came_twice_have_a_reason_or_none(
    ranges: list[Served], killings: list[Killing], expected: dict[str, int]
) -> None:
    assert surplus(account_of(ranges, SIZES, killings)) == expected


def test_the_overhead_is_what_came_beyond_the_blobs() -> None:
    ranges = [fetched(0, 100, "reset", 0, 1), fetched(0, 1000, "whole", 2, 3)]
    assert account_of(ranges, SIZES, NO_KILLING).overhead_percent == 10.0
