"""The daemon in a PID namespace of its own: as its PID 1, as in a container, or as the child of a small init."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.engine.processes import wait_until
from tests.system.ground.base import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.engine.daemon import Daemon, DaemonFactory

UNSHARE: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class Namespace:
    """`unshare` is our child, PID 1 is the child of that: the daemon itself, or an init over it."""

    def __init__(self, model: Daemon, init: tuple[str, ...]) -> None:
        self.daemon, self._init = model, init
        self.start()

    def start(self) -> None:
        """Start it; also again after its end, with the same folders and ports."""
        command = [*UNSHARE, *self._init, sys.executable, "-m", "arasul_supervisor", "run"]
        with (self.daemon.folder / "daemon.out").open("ab") as out:
            self.outer = subprocess.Popen(
                command,
                env=self.daemon.environment,
                cwd=self.daemon.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def init_pid(self) -> int:
        """The pid of PID 1, as it is seen from outside."""
        return only_child(self.outer.pid)

    @property
    def pid(self) -> int:
        """The daemon's pid, as it is seen from outside."""
        return only_child(self.init_pid) if self._init else self.init_pid

    @property
    def engine_pid(self) -> int:
        """The engine's pid, as it is seen from outside; the API tells the one of the namespace."""
        return self.outside(self.daemon.process()["pid"])

    def outside(self, inner: int) -> int:
        """The pid, as it is seen from outside, of a child of the daemon."""
        return next(pid for pid in children_of(self.pid) if pid_inside(pid) == inner)

    def wait_ready(self, *, limit_s: float = 20.0) -> None:
        """Wait until the API (the network is the host's) says that the engine answers."""
        wait_until(lambda: is_ready(self.daemon), limit_s=limit_s, what="/readyz in the namespace")

    def run_inside(self, script: str) -> None:
        """Run a shell script in the namespace; what it leaves in the background becomes an orphan of PID 1."""
        enter = ["nsenter", "--target", str(self.init_pid), "--pid", "--mount", "sh", "-c", script]
        subprocess.run(enter, check=True, timeout=30, stdin=subprocess.DEVNULL)

    def events(self, name: str) -> list[dict[str, Any]]:  # Any: a line of the log, looked into by tests
        """The lines of the daemon's log that tell of that event."""
        lines = (line for line in self.daemon.log_text().splitlines() if f'"{name}"' in line)
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in told if line.get("event") == name]

    def stop(self, *, limit_s: float = 10.0) -> int:
        """SIGTERM to PID 1; the exit code that came out of the namespace."""
        os.kill(self.init_pid, signal.SIGTERM)
        return self.outer.wait(limit_s)

    def end(self) -> None:
        """End the namespace with all in it."""
        if self.outer.poll() is None:
            self.outer.kill()
        self.outer.wait(10)


class NamespaceFactory:
    """Makes namespaces and ends them."""

    def __init__(self, daemons: DaemonFactory) -> None:
        self._daemons = daemons
        self._made: list[Namespace] = []

    def __call__(
        self,
        fake: str = "",
        *,
        engine: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        init: tuple[str, ...] = (),
    ) -> Namespace:
        """Start a daemon in a namespace.

        :param fake: modes of the fake engine
        :param engine: a real `ollama` in its place
        :param init: command line of a PID 1 that starts the rest of its arguments
        """
        made = Namespace(self._daemons.prepare(fake, engine=engine, env=env), init)
        self._made.append(made)
        return made

    def end(self) -> None:
        """End all that were made."""
        for made in self._made:
            made.end()


@pytest.fixture
def namespaces(daemon: DaemonFactory) -> Iterator[NamespaceFactory]:
    """A factory of daemons in namespaces of their own."""
    need("the daemon as PID 1", "unshare", "nsenter")
    factory = NamespaceFactory(daemon)
    yield factory
    factory.end()


class Pulse:
    """Asks /livez without a pause, in a thread, and keeps the slowest answer and every failure."""

    def __init__(self, daemon: Daemon) -> None:
        self.worst_s, self.n_answers = 0.0, 0
        self.failures: list[str] = []
        self._daemon, self._is_over = daemon, threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse")

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.01):
            try:
                answer = self._daemon.get("/livez", timeout_s=5)
            except OSError as error:
                self.failures.append(repr(error))
                continue
            self.n_answers += 1
            self.worst_s = max(self.worst_s, answer.took_s)
            if answer.status != 200:
                self.failures.append(f"status {answer.status}")


def is_ready(daemon: Daemon) -> bool:
    """Whether its API says that the engine answers."""
    try:
        return daemon.get("/readyz").status == 200
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """Children of a process, zombies too."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def only_child(pid: int) -> int:
    """The first child of a process, waited for."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if children := children_of(pid):
            return children[0]
        time.sleep(0.001)
    raise AssertionError(f"process {pid} has no child")


def pid_inside(pid: int) -> int | None:
    """The number that a process has in its own namespace; None when it is gone."""
    return int(words[-1]) if (words := _status(pid, "NSpid")) else None


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for that signal."""
    words = _status(pid, "SigCgt")
    return bool(words) and bool(int(words[0], 16) >> (number - 1) & 1)


def zombies_below(pid: int) -> list[int]:
    """Children of a process that it has not reaped."""
    return [child for child in children_of(pid) if _status(child, "State")[:1] == ["Z"]]


def _status(pid: int, name: str) -> list[str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(f"{name}:")), [])
