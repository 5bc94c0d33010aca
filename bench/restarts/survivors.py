"""What is left of the killed engines: helpers in the engine's group, and one that left it for a session of its own.

What carries the contender's mark and belongs neither to it nor to the tree of the living engine has survived.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.figures import Figure, Goal, Outcome
from bench.restarts.contenders import Floor, Ours, children_of, running
from bench.restarts.guest import Systemd
from bench.restarts.peers import S6, Circus, Runit, Supervisord
from bench.rounds import tell_progress
from tests.engine.processes import pids_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.restarts.contenders import Contender, Maker

HELPERS: Final = 3
OURS: Final[Maker] = partial(Ours, n_helpers=HELPERS)
PEERS: Final[tuple[Maker, ...]] = tuple(
    partial(kind, n_helpers=HELPERS) for kind in (Floor, Runit, S6, Systemd, Supervisord, Circus)
)
QUICK_PEERS: Final = PEERS[:1]
FULL_KILLS: Final = 1000
QUICK_KILLS: Final = 100
PEER_KILLS: Final = 20
QUICK_PEER_KILLS: Final = 4
UP_S: Final = 1.1
EARLY_S: Final = 0.003
READY_S: Final = 0.01
SETTLED_S: Final = 1.0
NONE: Final = Goal("==", 0, "survivors")


def measure(*, is_quick: bool) -> Outcome:
    """1,000 kills of ours, then 20 of all others at the same time; quick: 100, and of the floor alone."""
    outcome, seed = Outcome(), random.randrange(1_000_000)
    n_kills, n_peer_kills = (QUICK_KILLS, QUICK_PEER_KILLS) if is_quick else (FULL_KILLS, PEER_KILLS)
    with running((OURS, *(QUICK_PEERS if is_quick else PEERS)), outcome) as contenders:
        if not contenders:
            return outcome
        ours, *peers = contenders
        took_s = _kill_at_once(ours, n_kills, random.Random(seed))
        for _ in range(n_peer_kills):
            _kill_all(peers)
        time.sleep(SETTLED_S)
        for one in contenders:
            n_helpers = len(children_of(one.engine_pid()))
            assert n_helpers == HELPERS, f"the engine of {one.name} has {n_helpers} helpers"
        left = {one.name: survivors_of(one) for one in contenders}
    outcome.remarks.append(
        f"Each engine has two helpers in its group and one in a session of its own. Ours was killed {n_kills} times in "
        f"{took_s:.1f} s, every other time within {1000 * EARLY_S:g} ms of its first instruction, else within "
        f"{1000 * READY_S:g} ms of its readiness (seed {seed}); the others each {n_peer_kills} times, after {UP_S:g} s."
    )
    outcome.figures.append(Figure(f"{ours.name}: survivors", left[ours.name], "", NONE, n=n_kills))
    outcome.figures += (
        Figure(f"{one.name}: survivors of 100 kills", 100 * left[one.name] / n_peer_kills, "", n=n_peer_kills)
        for one in peers
    )
    return outcome


def survivors_of(contender: Contender) -> int:
    """How many processes of dead engines are alive."""
    carriers = set(pids_with(contender.mark))
    engine = contender.engine_pid()
    return len(carriers - {*contender.own_pids(), engine, *children_of(engine)})


def _kill_at_once(contender: Contender, n_kills: int, dice: random.Random) -> float:
    """Kill as fast as readiness allows; seconds that it took.

    Two starts that fail in a row would be followed by a pause: every other engine is allowed to become ready.
    """
    began_s = time.monotonic()
    for number in range(n_kills):
        if number % 2:
            time.sleep(dice.uniform(0, EARLY_S))
        else:
            contender.stamps.wait_for("asked")
            time.sleep(dice.uniform(0, READY_S))
        contender.wait_restarted(contender.kill())
        tell_progress(f"kill {number + 1} of {n_kills}")
    return time.monotonic() - began_s


def _kill_all(contenders: Sequence[Contender]) -> None:
    time.sleep(UP_S)
    killed = [(one, one.kill()) for one in contenders]
    for one, at_ns in killed:
        one.wait_restarted(at_ns)
