"""The daemon as PID 1 of a namespace of its own, as a container runs it: it adopts, reaps, and takes all along."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class Namespace:
    """A daemon that is PID 1: `unshare` is our child, the daemon is the child of that."""

    def __init__(self, model: Daemon) -> None:
        environment = {**model.environment, "ARASUL_STATE_DIR": str(model.folder / "state-of-pid-1")}
        command = [*UNSHARE, sys.executable, "-m", "arasul_supervisor", "run"]
        with (model.folder / "daemon.out").open("ab") as out:
            self.outer = subprocess.Popen(command, env=environment, cwd=model.folder, stdout=out, stderr=out)
        self.daemon = model

    @property
    def pid(self) -> int:
        """The daemon's pid as it is seen from outside."""
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        return int(children[0])


@pytest.fixture
def namespace(daemon: DaemonFactory) -> Iterator[Namespace]:
    """A daemon as PID 1 over the fake engine, with helpers that leave its session."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("NOT TESTED: the daemon as PID 1, for that needs root and the program unshare")
    model = daemon("escape,count=2,deaf=1;helpers,count=2", arguments=("version", "--json"))
    model.wait_exit()
    inside = Namespace(model)
    yield inside
    if inside.outer.poll() is None:
        inside.outer.kill()
    inside.outer.wait(10)


def wait_ready(inside: Namespace) -> None:
    """Wait until the API in the namespace (the network is the host's) says that the engine answers."""
    wait_until(lambda: _is_ready(inside.daemon), limit_s=20, what="/readyz of PID 1")


def _is_ready(daemon: Daemon) -> bool:
    try:
        return daemon.get("/readyz").status == 200
    except OSError:
        return False


def test_it_runs_as_pid_1_and_needs_no_guardian(namespace: Namespace) -> None:
    wait_ready(namespace)
    status = Path(f"/proc/{namespace.pid}/status").read_text()
    assert next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "1"
    children = Path(f"/proc/{namespace.pid}/task/{namespace.pid}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert not any(command.startswith(b"/bin/sh\0-c\0trap") for command in commands)


def test_orphans_are_reaped_and_no_exit_status_is_stolen(namespace: Namespace) -> None:
    wait_ready(namespace)
    orphan = "for n in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.05 &) ; done"
    enter = ["nsenter", "--target", str(namespace.pid), "--pid", "--mount", "sh", "-c", orphan]
    subprocess.run(enter, check=True, timeout=10)
    os.kill(_engine_pid(namespace), signal.SIGKILL)
    wait_until(lambda: namespace.daemon.process()["restarts"] == 1, limit_s=10, what="the restart")
    assert namespace.daemon.process()["last_exit"]["signal"] == signal.SIGKILL
    wait_until(lambda: _zombies_below(namespace.pid) == [], limit_s=10, what="no zombie")


def _engine_pid(namespace: Namespace) -> int:
    """The engine's pid as it is seen from outside: the API tells the one of the namespace."""
    inner = namespace.daemon.process()["pid"]
    for pid in _all_pids():
        try:
            line = next(
                x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("NSpid:")
            )
        except (OSError, StopIteration):
            continue
        if line.split()[-1] == str(inner) and len(line.split()) > 2:
            return pid
    raise AssertionError("no such process")


def _zombies_below(parent: int) -> list[int]:
    found = []
    for pid in _all_pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == parent:
            found.append(pid)
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def test_sigterm_ends_it_with_code_0_and_all_below_it(namespace: Namespace, fake_engine: FakeEngine) -> None:
    wait_ready(namespace)
    os.kill(namespace.pid, signal.SIGTERM)
    assert namespace.outer.wait(10) == 0
    assert namespace.daemon.survivors() == {}


def test_sigkill_of_pid_1_takes_all_below_it(namespace: Namespace) -> None:
    wait_ready(namespace)
    os.kill(namespace.pid, signal.SIGKILL)
    namespace.outer.wait(10)
    assert namespace.daemon.survivors() == {}
