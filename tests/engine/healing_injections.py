"""The faults of the table's rows (facts/ollama.md §7), each brought about inside a context."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.engine.frozen_process import frozen, frozen_again, on_each_load
from tests.engine.frozen_thread import frozen_compute_thread
from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.healing_clients import Client
    from tests.engine.healing_ground import HealingGround

FOR_EVER = -1
SEEN_S = 2.0  # two looks: a runner that was never seen ready counts as one that loads


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is there now. `victim`: the client that it hit; None where nobody was asking."""

    victim: Client | None = None


@contextlib.contextmanager
def busy(ground: HealingGround) -> Iterator[tuple[Client, int]]:
    """A client of `tiny` in the middle of its answer, and the runner; the daemon has seen it at work."""
    with ground.answering("tiny") as client:
        time.sleep(SEEN_S)
        yield client, ground.runner_of("tiny")


@contextlib.contextmanager
def stuck_compute(ground: HealingGround) -> Iterator[Fault]:
    """The compute thread of a runner stands still in the middle of an answer."""
    with busy(ground) as (client, runner), frozen_compute_thread(runner):
        yield Fault(client)


@contextlib.contextmanager
def frozen_busy(ground: HealingGround) -> Iterator[Fault]:
    """A runner is stopped in the middle of an answer."""
    with busy(ground) as (client, runner), frozen(runner):
        yield Fault(client)


@contextlib.contextmanager
def frozen_busy_again(ground: HealingGround) -> Iterator[Fault]:
    """A runner is stopped in the middle of an answer, and again whenever it is continued."""
    with busy(ground) as (client, runner), frozen_again(runner):
        yield Fault(client)


@contextlib.contextmanager
def frozen_idle(ground: HealingGround) -> Iterator[Fault]:
    """A runner is stopped while nobody asks it."""
    runner = ground.load("tiny")
    time.sleep(SEEN_S)
    with frozen(runner):
        yield Fault()


@contextlib.contextmanager
def frozen_load(ground: HealingGround) -> Iterator[Fault]:
    """A runner is stopped before its model is there."""
    with on_each_load(ground.engine_pid, signal.SIGSTOP) as met, ground.waiting("tiny") as client:
        wait_until(lambda: met, limit_s=10, what="a runner is stopped while it loads")
        yield Fault(client)


@contextlib.contextmanager
def hanging_load(ground: HealingGround) -> Iterator[Fault]:
    """A runner does nothing instead of loading; the next is well."""
    ground.order("hang")
    with ground.waiting("tiny") as client:
        ground.runner_of("tiny")
        ground.order("")
        yield Fault(client)


@contextlib.contextmanager
def dying_in_answers(ground: HealingGround) -> Iterator[Fault]:
    """The runner of one model is killed in three answers, one after the other."""
    for _ in range(3):
        with busy(ground) as (client, runner):
            os.kill(runner, signal.SIGKILL)
            wait_until(client.is_over.is_set, limit_s=10, what="the client is told")
    with ground.waiting("tiny") as after:  # Ollama writes of a death when the model is asked for next
        wait_until(after.is_over.is_set, limit_s=10, what="the next request is answered")
    yield Fault(client)


@contextlib.contextmanager
def orphan(ground: HealingGround) -> Iterator[Fault]:
    """A runner has lost its engine and lives on."""
    pid = ground.start_orphan("tiny")
    yield Fault()
    wait_until(lambda: not is_alive(pid), limit_s=5, what="the orphan is gone")


@contextlib.contextmanager
def fake_orphan(ground: HealingGround) -> Iterator[Fault]:
    """A runner has lost its engine and lives on; the mode `orphan_runner` made it."""
    wait_until(lambda: any(os.getsid(pid) == pid for pid in ground.runners()), limit_s=10, what="the orphan")
    yield Fault()


@contextlib.contextmanager
def deleted_for_ever(ground: HealingGround) -> Iterator[Fault]:
    """A model that was loaded for ever is deleted."""
    ground.load("tiny", keep_alive=FOR_EVER)
    ground.daemon.engine("DELETE", "/api/delete", {"model": "tiny"})
    yield Fault()


@contextlib.contextmanager
def engine_frozen(ground: HealingGround) -> Iterator[Fault]:
    """The engine is stopped."""
    with frozen(ground.engine_pid):
        yield Fault()


@contextlib.contextmanager
def engine_frozen_again(ground: HealingGround) -> Iterator[Fault]:
    """The engine is stopped, and again whenever it is continued."""
    with frozen_again(ground.engine_pid):
        yield Fault()


@contextlib.contextmanager
def engine_killed(ground: HealingGround) -> Iterator[Fault]:
    """The engine is killed in the middle of an answer."""
    with ground.answering("tiny") as client:
        os.kill(ground.engine_pid, signal.SIGKILL)
        yield Fault(client)


@contextlib.contextmanager
def loaded_and_unloaded(ground: HealingGround) -> Iterator[Fault]:
    """A model is loaded and unloaded: with `stuck_stopping` it stays."""
    ground.load("tiny")
    ground.unload("tiny")
    yield Fault()


@contextlib.contextmanager
def loaded(ground: HealingGround) -> Iterator[Fault]:
    """A model is loaded: with `leaked_runner` twice."""
    answer = ground.daemon.engine("POST", "/api/generate", {"model": "tiny"})
    assert answer.status == 200, answer.body
    yield Fault()


@contextlib.contextmanager
def answering_and_unloaded(ground: HealingGround) -> Iterator[Fault]:
    """A model stands still in an answer and is meant to be unloaded: what ≤ 0.29 can be seen by."""
    with ground.answering("tiny") as client:
        ground.unload("tiny")
        yield Fault(client)


@contextlib.contextmanager
def waiting_load(ground: HealingGround) -> Iterator[Fault]:
    """Somebody waits for a load that never ends."""
    with ground.waiting("tiny") as client:
        yield Fault(client)


@contextlib.contextmanager
def turned_away(ground: HealingGround) -> Iterator[Fault]:
    """Loads are turned away, again and again."""
    with ground.asking_in_vain("tiny"):
        yield Fault()


@contextlib.contextmanager
def poisoned(ground: HealingGround) -> Iterator[Fault]:
    """A model that kills the engine is asked for twice."""
    for generation in (1, 2):
        with ground.waiting("tiny") as client:
            wait_until(client.is_over.is_set, limit_s=10, what="the client is told")
        wait_until(
            lambda: ground.daemon.process()["generation"] > generation,  # noqa: B023  # called in this turn only
            limit_s=15,
            what="the next engine",
        )
        ground.daemon.wait_ready()
    yield Fault(client)
