"""Side by side in one run: each contender in each round, the order turned about from round to round."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def alternate(
    contenders: Mapping[str, Callable[[], Sequence[float]]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[list[float]]]:
    """A B, B A, A B …: a machine that grows slower meanwhile does so for both.

    :param contenders: by name, what takes the samples of one round
    :param warm_up: rounds before, whose samples are thrown away
    :returns: by name, the samples of each round
    """
    taken: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for turn in range(-warm_up, rounds):
        names = list(contenders)
        for name in names if turn % 2 == 0 else reversed(names):
            samples = list(contenders[name]())
            if turn >= 0:
                taken[name].append(samples)
        tell_progress(f"round {turn + 1} of {rounds}" if turn >= 0 else "warm-up")
    return taken


def tell_progress(text: str) -> None:
    """One line on a terminal, written over the last one; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r  {text:60}", end="", file=sys.stderr, flush=True)
