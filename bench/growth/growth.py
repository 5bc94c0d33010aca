"""How a cost grows with a size: each figure beside the same at a smaller size, so that a square shows as one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench.figures import WIDE_AT_THE_END, Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.figures import Outcome, Rounds

MIB: Final = 1 << 20
FLAT: Final = 1.5
"""What does not depend on a size may cost so many times as much at the largest: the noise of a shared machine."""
ROOM: Final = 1.5
"""What grows with a size may grow so many times as fast."""


def linear(sizes: Sequence[int]) -> Goal:
    """The most that may be between the costs at the largest size and at the second of these. Squares are far above."""
    return Goal("<=", ROOM * sizes[-1] / base_of(sizes))


def flat() -> Goal:
    """The same for what must not depend on the size."""
    return Goal("<=", FLAT)


def base_of(sizes: Sequence[int]) -> int:
    """What the others are compared with: the second, for at the first fixed costs alone are seen; of two the first."""
    return sizes[1] if len(sizes) > 2 else sizes[0]


def add_growth(
    outcome: Outcome,
    name: str,
    by_size: Mapping[int, Rounds],
    unit: str,
    noun: str,
    *,
    goal: Goal | None = None,
    of: Callable[[Sequence[float]], float] | None = None,
    wide: float = WIDE_AT_THE_END,
) -> None:
    """Add the figure at each size, those above the base beside it; the goal is for the ratio at the largest.

    :param by_size: rounds that were taken in turn, as many for each size, the smallest first
    :param noun: of what there are so many
    :param wide: see `Figure`; much, for what is looked for here is far off: of a square a hundred times
    """
    sizes = list(by_size)
    base = base_of(sizes)
    for size, rounds in by_size.items():
        is_largest = size == sizes[-1] and size != base
        outcome.add_rounds(
            f"{name}, {size:,} {noun}",
            rounds,
            unit,
            of=of,
            goal=goal if is_largest else None,
            beside=(f"{base:,} {noun}", by_size[base]) if size > base else None,
            is_of_ratio=is_largest and goal is not None,
            wide=wide,
        )


def busy_s(pid: int) -> float:
    """Seconds of processor time of a process, all threads, ended ones included (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)
