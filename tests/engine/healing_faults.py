"""The faults that a soak draws from: each is brought about on a daemon that is well, and may need another to end."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.engine.frozen_process import frozen, frozen_again, on_each_load
from tests.engine.frozen_thread import frozen_compute_thread
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.engine.healing_ground import HealingGround

LOOKS_S: Final = 7.0  # two looks until it is found, two until it is over, on a busy box
CONTINUE_S: Final = 5.0  # until it is clear that SIGCONT did not help
STOP_S: Final = 7.0  # ARASUL_STOP_TIMEOUT, which a stopped engine uses up
RESTART_S: Final = 15.0  # its start and a first load


@dataclass(frozen=True, slots=True)
class SoakFault:
    """One fault.

    `bound_s`: from it until every model has given a whole answer that was asked for afterwards. `weight`: how often it
    is drawn. `costs`: what it takes of the daemon's budgets: "continue", "runner", "engine" (by healing), or nothing.
    """

    name: str
    bring_about: Callable[[HealingGround, str], AbstractContextManager[None]]
    bound_s: float
    weight: int
    costs: tuple[str, ...] = ()


@contextlib.contextmanager
def runner_stopped(ground: HealingGround, model: str) -> Iterator[None]:
    with frozen(ground.runner_of(model)):
        yield


@contextlib.contextmanager
def runner_stopped_again(ground: HealingGround, model: str) -> Iterator[None]:
    with frozen_again(ground.runner_of(model)):
        yield


@contextlib.contextmanager
def runner_killed(ground: HealingGround, model: str) -> Iterator[None]:
    os.kill(ground.runner_of(model), signal.SIGKILL)
    yield


@contextlib.contextmanager
def thread_held(ground: HealingGround, model: str) -> Iterator[None]:
    with frozen_compute_thread(ground.runner_of(model)):
        yield


@contextlib.contextmanager
def killed_in_a_load(ground: HealingGround, model: str) -> Iterator[None]:
    with on_each_load(ground.engine_pid, signal.SIGKILL) as met:
        ground.unload(model)
        wait_until(lambda: met, limit_s=20, what="a load begins")
        yield


@contextlib.contextmanager
def engine_stopped(ground: HealingGround, model: str) -> Iterator[None]:
    with frozen(ground.engine_pid):
        yield


@contextlib.contextmanager
def engine_stopped_again(ground: HealingGround, model: str) -> Iterator[None]:
    with frozen_again(ground.engine_pid):
        yield


@contextlib.contextmanager
def engine_killed(ground: HealingGround, model: str) -> Iterator[None]:
    os.kill(ground.engine_pid, signal.SIGKILL)
    yield


@contextlib.contextmanager
def engine_crashed(ground: HealingGround, model: str) -> Iterator[None]:
    os.kill(ground.engine_pid, signal.SIGSEGV)
    yield


def faults(*, stuck_s: float, silent_s: float) -> tuple[SoakFault, ...]:
    """All of them, with the bounds that follow from the daemon's limits."""
    silent_bound_s = silent_s + LOOKS_S + 3
    again_bound_s = silent_s + CONTINUE_S + 2 * LOOKS_S
    return (
        SoakFault("runner stopped", runner_stopped, silent_bound_s, 3, ("continue",)),
        SoakFault("runner stopped again", runner_stopped_again, again_bound_s, 2, ("continue", "runner")),
        SoakFault("runner killed", runner_killed, LOOKS_S + 3, 3),
        SoakFault("compute thread held", thread_held, stuck_s + LOOKS_S + 5, 3, ("runner",)),
        SoakFault("runner killed in its load", killed_in_a_load, LOOKS_S + 5, 2),
        SoakFault("engine stopped", engine_stopped, silent_bound_s + 3, 2, ("engine continue",)),
        SoakFault(
            "engine stopped again",
            engine_stopped_again,
            again_bound_s + STOP_S + RESTART_S,
            1,
            ("engine continue", "engine"),
        ),
        SoakFault("engine killed", engine_killed, RESTART_S, 2),
        SoakFault("engine crashed (SIGSEGV)", engine_crashed, RESTART_S, 1),
    )
