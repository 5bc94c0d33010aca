"""Which core is whose: what is measured runs alone on one, the load and the engine on the others."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures import Outcome


@contextmanager
def one_core_apart(outcome: Outcome) -> Iterator[int | None]:
    """The core for what is measured; this process and what it starts keep to the others meanwhile.

    None where there is one core only; the remarks say which of both it was.
    """
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) == 1:
        outcome.remarks.append("one core only: the daemon, its load and its engine share it")
        yield None
        return
    core = min(everywhere)
    outcome.remarks.append(
        f"the daemon (or who is beside it) on core {core} alone, load and engine on the others"
    )
    os.sched_setaffinity(0, everywhere - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, everywhere)
