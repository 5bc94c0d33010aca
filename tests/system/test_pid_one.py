"""The daemon as PID 1 of a namespace of its own, as a container runs it: it adopts, reaps, and takes all along."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import wait_until
from tests.system.ground.namespace import catches, children_of, pid_inside, zombies_below
from tests.system.ground.namespace import namespaces as namespaces

if TYPE_CHECKING:
    from tests.system.ground.namespace import NamespaceFactory

HELPERS = "escape,count=2,deaf=1;helpers,count=2"
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGSTOP}


def test_it_runs_as_pid_1_and_needs_no_guardian(namespaces: NamespaceFactory) -> None:
    home = namespaces(HELPERS)
    home.wait_ready()
    assert pid_inside(home.pid) == 1
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(home.pid)]
    assert not any(command.startswith(b"/bin/sh\0-c\0trap") for command in commands)


def test_orphans_are_reaped_and_no_exit_status_is_stolen(namespaces: NamespaceFactory) -> None:
    home = namespaces(HELPERS)
    home.wait_ready()
    home.run_inside("for n in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.05 &) ; done")
    os.kill(home.engine_pid, signal.SIGKILL)
    wait_until(lambda: home.daemon.process()["restarts"] == 1, limit_s=10, what="the restart")
    assert home.daemon.process()["last_exit"]["signal"] == signal.SIGKILL
    wait_until(lambda: zombies_below(home.pid) == [], limit_s=10, what="no zombie")


def test_sigterm_ends_it_with_code_0_and_all_below_it(namespaces: NamespaceFactory) -> None:
    home = namespaces(HELPERS)
    home.wait_ready()
    assert home.stop() == 0
    assert home.daemon.survivors() == {}


def test_sigkill_of_pid_1_takes_all_below_it(namespaces: NamespaceFactory) -> None:
    home = namespaces(HELPERS)
    home.wait_ready()
    os.kill(home.pid, signal.SIGKILL)
    home.outer.wait(10)
    assert home.daemon.survivors() == {}


def test_no_signal_but_those_that_ask_for_the_end_ends_or_stops_it(namespaces: NamespaceFactory) -> None:
    home = namespaces()
    home.wait_ready()
    before = home.daemon.process()
    for number in sorted(signal.valid_signals() - ENDING):
        os.kill(home.pid, number)
        assert home.daemon.get("/livez", timeout_s=2).status == 200, signal.Signals(number).name
    after = home.daemon.process()
    assert (after["pid"], after["restarts"], after["state"]) == (before["pid"], 0, "running")


def test_usr1_and_hup_are_heeded_by_pid_1(namespaces: NamespaceFactory) -> None:
    home = namespaces()
    home.wait_ready()
    os.kill(home.pid, signal.SIGUSR1)
    os.kill(home.pid, signal.SIGHUP)
    wait_until(lambda: home.events("state_dump") != [], limit_s=5, what="the dump of the state")
    wait_until(lambda: home.events("log_reopened") != [], limit_s=5, what="the log opened again")


def test_bad_settings_are_code_2(namespaces: NamespaceFactory) -> None:
    home = namespaces(env={"LLM_CONTEXT_LENGTH": "many"})
    assert home.outer.wait(10) == 2
    assert "LLM_CONTEXT_LENGTH" in home.daemon.log_text()


def test_a_management_port_in_use_is_code_71(namespaces: NamespaceFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        home = namespaces(env={"ARASUL_PORT": str(port)})
        assert home.outer.wait(10) == 71
    assert f"The management port {port} is held by " in home.daemon.log_text()


def test_giving_up_is_code_70_where_that_is_wished(namespaces: NamespaceFactory) -> None:
    home = namespaces("crash,message=broken", env={"ARASUL_ON_GIVE_UP": "exit", "ARASUL_START_RETRIES": "2"})
    assert home.outer.wait(15) == 70
    assert home.daemon.survivors() == {}


def test_a_second_sigterm_ends_it_at_once(namespaces: NamespaceFactory) -> None:
    home = namespaces(f"ignore_term;{HELPERS}")
    home.wait_ready()
    os.kill(home.pid, signal.SIGTERM)
    wait_until(lambda: home.events("asked_to_end") != [], limit_s=5, what="the first request to end")
    begun = time.monotonic()
    assert home.stop() == 0
    assert time.monotonic() - begun < 3  # the engine would have 7 s
    assert home.daemon.survivors() == {}


@pytest.mark.parametrize("after_ms", range(0, 100, 10))
def test_a_sigterm_during_the_launch_is_not_lost(namespaces: NamespaceFactory, after_ms: int) -> None:
    home = namespaces(HELPERS)
    # before Python runs the first line of ours, the kernel drops what PID 1 does not handle: nobody can do better
    wait_until(lambda: catches(home.pid, signal.SIGTERM), limit_s=10, what="the handler of PID 1")
    time.sleep(after_ms / 1000)
    assert home.stop() == 0
    assert home.daemon.survivors() == {}
