"""The daemon below a small init, as with `docker run --init`: not PID 1 any more, so its guardian stands by."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import is_alive, pids_with, wait_until
from tests.system.ground.base import need
from tests.system.ground.namespace import children_of, pid_inside, zombies_below
from tests.system.ground.namespace import namespaces as namespaces

if TYPE_CHECKING:
    from tests.engine.daemon import DaemonFactory
    from tests.system.ground.namespace import NamespaceFactory

HELPERS = "escape,count=2,deaf=1;helpers,count=2"
TINI = ("tini", "--")
SHELL = ("sh", "-c", 'trap "kill -TERM \\$child" TERM; "$@" & child=$!; wait $child; wait $child', "sh")
STAYS = ("sh", "-c", '"$@" & wait; while :; do sleep 0.1; done', "sh")


@pytest.mark.parametrize("init", [TINI, SHELL], ids=["tini", "shell"])
def test_sigterm_of_the_init_ends_all_with_code_0(
    namespaces: NamespaceFactory, init: tuple[str, ...]
) -> None:
    need("the daemon below tini", init[0])
    home = namespaces(HELPERS, init=init)
    home.wait_ready()
    assert home.stop() == 0
    assert home.daemon.survivors() == {}


def test_below_an_init_the_guardian_stands_by(namespaces: NamespaceFactory) -> None:
    need("the daemon below tini", "tini")
    home = namespaces(init=TINI)
    home.wait_ready()
    assert pid_inside(home.pid) != 1
    assert len(children_of(home.pid)) == 2  # the engine and the guardian


def test_a_killed_daemon_leaves_no_engine_below_an_init_that_stays(namespaces: NamespaceFactory) -> None:
    home = namespaces(HELPERS, init=STAYS)
    home.wait_ready()
    engine_and_helpers = [pid for pid in pids_with(home.daemon.marker) if pid in pids_with("ARASUL_MARKER=")]
    os.kill(home.pid, signal.SIGKILL)
    gone = "the engine and its helpers gone"
    wait_until(lambda: not any(map(is_alive, engine_and_helpers)), limit_s=5, what=gone)
    assert is_alive(home.init_pid)


def test_a_killed_daemon_ends_the_container_that_tini_holds(namespaces: NamespaceFactory) -> None:
    need("the daemon below tini", "tini")
    home = namespaces(HELPERS, init=TINI)
    home.wait_ready()
    os.kill(home.pid, signal.SIGKILL)
    assert home.outer.wait(10) == 128 + signal.SIGKILL
    assert home.daemon.survivors() == {}


def test_orphans_of_the_engine_are_reaped_by_the_daemon_though_it_is_not_pid_1(
    namespaces: NamespaceFactory,
) -> None:
    home = namespaces("escape,count=30,life_s=0.5", init=STAYS)
    home.wait_ready()
    wait_until(lambda: len(children_of(home.pid)) == 2, limit_s=10, what="only engine and guardian below it")
    assert zombies_below(home.pid) == []


@pytest.mark.parametrize("after_ms", range(0, 100, 10))
def test_a_sigterm_during_the_launch_of_a_bare_daemon_leaves_nothing(
    daemon: DaemonFactory, after_ms: int
) -> None:
    launched = daemon(HELPERS)
    time.sleep(after_ms / 1000)
    assert launched.stop() in (0, -signal.SIGTERM)
    assert launched.survivors() == {}
