"""From SIGKILL of the engine to the first instruction of the next one, all contenders in the same run.

The engine is a C program whose first act is to read the clock. Nothing polls: it writes into a FIFO that is read.
On a box that others use too, `chrt -f 10 python -m bench restart_latency` keeps them out of the figures.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.figures import WIDE_AT_THE_END, Goal, Outcome, p50, p99
from bench.restarts.contenders import Floor, Ours, running
from bench.restarts.guest import Systemd
from bench.restarts.peers import S6, BusyCircus, Circus, Runit, S6WithoutReadiness, Supervisord
from bench.rounds import tell_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.restarts.contenders import Contender, Maker

    Taken = dict[str, list[list[float]]]
    """By contender, the milliseconds of each round."""

HELPERS: Final = 3
FULL: Final[tuple[Maker, ...]] = (
    *(Ours, Floor, Runit, S6, S6WithoutReadiness, Systemd, Supervisord, Circus),
    *(partial(Ours, n_helpers=HELPERS), partial(Systemd, n_helpers=HELPERS)),
)
QUICK: Final[tuple[Maker, ...]] = (Ours, Floor)
APART: Final[tuple[Maker, ...]] = (Ours, BusyCircus)
"""Who looks all the time leaves the others no peace."""
SLOW_MS: Final = 1000.0
SLOW_EVERY: Final = 7
SETTLED_S: Final = 2.0
"""After the launch: what a daemon imports in its first second keeps its loop busy."""
CALM_S: Final = 0.02
"""After a restart the others are left in peace for so long: the new engine is asked whether it is ready."""
GOALS: Final = (Goal("<=", 2.0, "restart"), Goal("<=", 3.5, "restart"))
TREE_GOALS: Final = (Goal("<=", 2.5, "restart of a tree"), Goal("<=", 5.0, "restart of a tree"))


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is killed, and how long an engine has run by then: at least `up_s`, and up to `phase_s` more."""

    n_cycles: int
    n_rounds: int
    up_s: float
    phase_s: float


PATIENT: Final = Pace(n_cycles=200, n_rounds=10, up_s=1.1, phase_s=0.1)
"""runit and s6 hold a program back that has not run for a second: nobody is asked to break his rule."""
AT_ONCE: Final = Pace(n_cycles=200, n_rounds=10, up_s=0.02, phase_s=0.04)
APART_PACE: Final = Pace(n_cycles=160, n_rounds=8, up_s=0.05, phase_s=0.05)
QUICK_PACE: Final = Pace(n_cycles=80, n_rounds=8, up_s=0.02, phase_s=0.04)


def measure(*, is_quick: bool) -> Outcome:
    """All contenders at their ease, then ours killed again at once; quick: ours and the floor."""
    outcome, seed = Outcome(), random.randrange(1_000_000)
    dice = random.Random(seed)
    with running(QUICK if is_quick else FULL, outcome) as contenders:
        if not contenders:
            return outcome
        pace = QUICK_PACE if is_quick else PATIENT
        taken = _take(contenders, pace, dice)
        again = {} if is_quick else _take(contenders[:1], AT_ONCE, dice)
    outcome.remarks.append(_how(pace, seed))
    _add_ours(outcome, taken)
    _add_beside(outcome, contenders, taken)
    if not is_quick:
        with running(APART, outcome) as pair:
            _add_beside(outcome, pair, _take(pair, APART_PACE, dice))
    _add_tree(outcome, taken)
    for rounds in again.values():
        name = "restart of an engine that has run for 20 to 60 ms"
        outcome.add_rounds(f"{name}, p50", rounds, "ms", of=p50)
        outcome.add_rounds(f"{name}, p99", rounds, "ms", of=p99, wide=WIDE_AT_THE_END)
    return outcome


def _take(contenders: Sequence[Contender], pace: Pace, dice: random.Random) -> Taken:
    """Kill in cycles; the first is a warm-up, whose samples are thrown away."""
    time.sleep(SETTLED_S)
    taken: Taken = {one.label: [[] for _ in range(pace.n_rounds)] for one in contenders}
    quick = [one for one in contenders if one.takes_ms < SLOW_MS]
    slow = [one for one in contenders if one.takes_ms >= SLOW_MS]
    for cycle in range(-1, pace.n_cycles):
        seen: list[tuple[str, float]] = []
        if cycle % SLOW_EVERY == 0:
            killed = [(one, one.kill()) for one in slow]
            seen += [(one.label, one.wait_restarted(at_ns)) for one, at_ns in killed]
        for one in dice.sample(quick, len(quick)):
            assert one.life is not None
            up_s = pace.up_s + dice.uniform(0, pace.phase_s)
            time.sleep(max(0.0, one.life.at_ns / 1e9 + up_s - time.monotonic()))
            seen.append((one.label, one.wait_restarted(one.kill())))
            time.sleep(CALM_S)
        if cycle >= 0:
            for label, ms in seen:
                taken[label][cycle * pace.n_rounds // pace.n_cycles].append(ms)
        tell_progress(f"cycle {cycle + 1} of {pace.n_cycles}")
    return taken


def _how(pace: Pace, seed: int) -> str:
    return (
        f"All run at the same time on the same cores. In each of {pace.n_cycles} cycles each is killed once, in an"
        f" order by chance, after it has run for {pace.up_s:g} s and up to {pace.phase_s:g} s more (seed {seed});"
        f" those that need a second or more, all at once in every {SLOW_EVERY}th cycle."
    )


def _add_ours(outcome: Outcome, taken: Taken) -> None:
    ours, floor = taken[Ours.name], taken.get(Floor.name)
    beside = (Floor.name, floor) if floor else None
    outcome.add_rounds("restart, p50", ours, "ms", of=p50, goal=GOALS[0], beside=beside)
    outcome.add_rounds("restart, p99", ours, "ms", of=p99, goal=GOALS[1], beside=beside, wide=WIDE_AT_THE_END)


def _add_beside(outcome: Outcome, contenders: Sequence[Contender], taken: Taken) -> None:
    """The other owners of one process; of those that need a second how many times our time that is."""
    ours = taken[Ours.name]
    for one in contenders:
        if one.label != one.name or one.name in (Ours.name, Floor.name):
            continue
        theirs = taken[one.name]
        if one.takes_ms >= SLOW_MS:
            outcome.add_rounds(f"restart by {one.name}, p50", theirs, "ms", beside=(Ours.name, ours))
            continue
        beside = (one.name, theirs)
        outcome.add_rounds(f"restart beside {one.name}, p50", ours, "ms", beside=beside)
        outcome.add_rounds(
            f"restart beside {one.name}, p99", ours, "ms", of=p99, beside=beside, wide=WIDE_AT_THE_END
        )


def _add_tree(outcome: Outcome, taken: Taken) -> None:
    suffix = f", tree of {HELPERS + 1}"
    ours, theirs = taken.get(Ours.name + suffix), taken.get(Systemd.name + suffix)
    if ours is None:
        return
    beside = (Systemd.name, theirs) if theirs else None
    outcome.add_rounds("restart of a tree of four, p50", ours, "ms", goal=TREE_GOALS[0], beside=beside)
    outcome.add_rounds(
        "restart of a tree of four, p99",
        ours,
        "ms",
        of=p99,
        goal=TREE_GOALS[1],
        beside=beside,
        wide=WIDE_AT_THE_END,
    )
