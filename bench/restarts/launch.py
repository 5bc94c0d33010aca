"""From the start of the process to the engine's first instruction, and to the first 200 of `/livez`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, TypeVar

from bench.figures import Goal, Outcome
from bench.restarts.bare import BareServer, answered_ms
from bench.restarts.contenders import SHOWN_BY, Contender, Floor, Ours
from bench.restarts.ground import CannotMeasure, prepared_ground
from bench.restarts.peers import Circus, Supervisord
from bench.rounds import alternate

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.restarts.ground import Ground

    Take = Callable[[], list[float]]

Kind = TypeVar("Kind", bound=Contender)
Taken = TypeVar("Taken")

ROUNDS: Final = 5
FULL_LAUNCHES: Final = 4
QUICK_LAUNCHES: Final = 1
SPAWNED: Final = Goal("<=", 80, "launch")
ANSWERS: Final = Goal("<=", 400, "launch")


def measure(*, is_quick: bool) -> Outcome:
    """20 launches of each in turn; quick: 5, of ours and the floor."""
    outcome = Outcome()
    with prepared_ground(outcome) as ground:
        if ground is None:
            return outcome
        launches = Launches(ground, QUICK_LAUNCHES if is_quick else FULL_LAUNCHES)
        kinds = _possible((Floor,) if is_quick else (Floor, Supervisord, Circus), ground, outcome)
        takes: dict[str, Take] = {Ours.name: launches.of_ours, BareServer.name: launches.of_bare}
        takes |= {kind.name: launches.of(kind) for kind in kinds}
        taken = alternate(takes, rounds=ROUNDS)
    ours, bare = taken[Ours.name], taken[BareServer.name]
    for kind in kinds:
        beside = (kind.name, taken[kind.name])
        goal = SPAWNED if kind is Floor else None
        outcome.add_rounds(f"launch → engine, beside {kind.name}", ours, "ms", goal=goal, beside=beside)
    answered = launches.answered_ms[-ROUNDS:]
    outcome.add_rounds("launch → /livez", answered, "ms", goal=ANSWERS, beside=(BareServer.name, bare))
    outcome.remarks.append(
        "`python -m arasul_supervisor run`, each time in an empty folder; /livez is asked as soon as the engine is"
        f" there, every millisecond while refused; {SHOWN_BY}."
    )
    return outcome


class Launches:
    """Launches on this ground, one after the other, so many in each round."""

    def __init__(self, ground: Ground, n_launches: int) -> None:
        self._ground, self._n = ground, n_launches
        self._numbers = itertools.count()
        self.answered_ms: list[list[float]] = []

    def of(self, kind: type[Contender]) -> Take:
        """What takes the milliseconds from launch to the engine's first instruction."""
        return lambda: [self._launch(kind, _started_ms) for _ in range(self._n)]

    def of_ours(self) -> list[float]:
        """The same of ours, which is asked besides when it answers."""
        both = [
            self._launch(Ours, lambda ours: (_started_ms(ours), answered_ms(ours.port, ours.launched_at_ns)))
            for _ in range(self._n)
        ]
        self.answered_ms.append([answered for _, answered in both])
        return [started for started, _ in both]

    def of_bare(self) -> list[float]:
        """Milliseconds from the launch of a bare server to its first answer."""
        return [self._launch(BareServer, lambda bare: bare.answered_ms) for _ in range(self._n)]

    def _launch(self, kind: type[Kind], seen: Callable[[Kind], Taken]) -> Taken:
        contender = kind(self._ground, f"launch{next(self._numbers)}")
        try:
            contender.start()
            return seen(contender)
        finally:
            contender.end()


def _started_ms(contender: Contender) -> float:
    assert contender.life is not None, f"{contender.name} has not been started"
    return (contender.life.at_ns - contender.launched_at_ns) / 1e6


def _possible(kinds: tuple[type[Contender], ...], ground: Ground, outcome: Outcome) -> list[type[Contender]]:
    """Those that this machine has; the remarks name the others."""
    found = []
    for kind in kinds:
        try:
            kind(ground, kind.__name__).end()
        except CannotMeasure as error:
            outcome.remarks.append(f"NOT MEASURED: {error}")
        else:
            found.append(kind)
    return found
