"""What the engine's owner is given: limits, and calls into rooms that it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arasul_supervisor.supervision.child import Launch
    from arasul_supervisor.supervision.snapshot import Failure


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Where the engine is reached, and how long its steps may take."""

    host: str
    port: int
    startup_s: float
    stop_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class EngineWiring:
    """What the engine's owner needs of the other rooms.

    :param prepare: the launch of generation n; raises ArasulError where it cannot be launched
    :param explain: code and sentence of a known start failure in its last lines, or None
    :param tail: the last lines of generation n, oldest first, with nothing private in them
    :param leave: told the exit code when the daemon is to end
    :param expect_deaths: told that we end runners of generation n: before it happens with 0, then with their number
    """

    prepare: Callable[[int], Launch]
    explain: Callable[[Sequence[str]], tuple[str, str] | None]
    tail: Callable[[int], Sequence[str]]
    leave: Callable[[int], None]
    expect_deaths: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Explained:
    """What was found out about the end of a generation, at once or after the next one had been started."""

    generation: int
    failure: Failure | None = None
    log_tail: tuple[str, ...] = ()
