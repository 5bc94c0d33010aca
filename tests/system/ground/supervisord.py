"""The real supervisord over our own config file, just as it is shipped, with the settings of one test.

The file names its socket in /tmp: each test sees a /tmp of its own, in which only its own folder is shared.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine.daemon import REPOSITORY, Daemon
from tests.engine.processes import kill_all_with, wait_until, wait_until_none_with
from tests.system.ground.base import need
from tests.system.ground.namespace import is_ready, only_child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.engine.daemon import DaemonFactory

CONFIG: Final = REPOSITORY / "config" / "supervisord.conf"
STOP_LIMIT_S: Final = 15.0
PROGRAMS: Final = Path(sys.executable).parent
_OWN_TMP: Final = """
mount -t tmpfs none /run && mkdir /run/upper /run/work /run/folder && mount --bind "$1" /run/folder &&
mount -t overlay -o lowerdir=/tmp,upperdir=/run/upper,workdir=/run/work none /tmp &&
mount --bind /run/folder "$1" && shift && exec "$@"
"""
_PID_1: Final = ("--pid", "--fork", "--mount-proc", "--kill-child")


class Supervisord:
    """A supervisord in a mount namespace of its own, or as PID 1 of a PID namespace too."""

    def __init__(self, model: Daemon, config: Path, *, is_pid_1: bool) -> None:
        self.daemon, self._config, self._is_pid_1 = model, config, is_pid_1
        self.popen = self._start(
            "unshare", "--mount", *(_PID_1 if is_pid_1 else ()), "sh", "-c", _OWN_TMP, "sh"
        )

    def start_again(self, beside_pid: int) -> None:
        """Start another one after this one's end, in the mount namespace of the given process."""
        mount = str(beside_pid)
        self.popen = self._start(
            "nsenter", "--target", mount, "--mount", "sh", "-c", 'shift; exec "$@"', "sh"
        )

    def _start(self, *around: str) -> subprocess.Popen[bytes]:
        folder = str(self.daemon.folder)
        command = [*around, folder, str(PROGRAMS / "supervisord"), "-c", str(self._config)]
        with (self.daemon.folder / "daemon.out").open("ab") as out:
            return subprocess.Popen(
                command,
                cwd="/",
                env=self.daemon.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def pid(self) -> int:
        """Its pid, as it is seen from outside."""
        return only_child(self.popen.pid) if self._is_pid_1 else self.popen.pid

    @property
    def daemon_pid(self) -> int:
        """The daemon's pid, as it is seen from outside."""
        return only_child(self.pid)

    def ctl(self, *arguments: str) -> str:
        """What `supervisorctl` says to that."""
        inside = ("nsenter", "--target", str(self.pid), "--mount", *(("--pid",) if self._is_pid_1 else ()))
        command = [*inside, str(PROGRAMS / "supervisorctl"), "-c", str(self._config), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=40, check=False)
        return done.stdout + done.stderr

    def state(self) -> str:
        """The state of the program, in supervisord's words; empty while supervisord does not answer."""
        found = re.search(r"^arasul-supervisor +([A-Z]+)\b", self.ctl("status"), re.MULTILINE)
        return found[1] if found else ""

    def wait_state(self, state: str, *, limit_s: float = 15.0) -> None:
        """Wait until the program is in that state."""
        wait_until(lambda: self.state() == state, limit_s=limit_s, what=f"supervisord says {state}")

    def wait_ready(self, *, limit_s: float = 20.0) -> None:
        """Wait until the daemon says that the engine answers."""
        wait_until(lambda: is_ready(self.daemon), limit_s=limit_s, what="/readyz below supervisord")

    def n_starts(self) -> int:
        """How often it has started the daemon."""
        return self.daemon.log_text().count("INFO spawned: 'arasul-supervisor'")

    def carriers(self) -> list[int]:
        """What of its engines is alive: neither supervisord, nor the daemon, nor the guardian carry the mark."""
        return list(_lives(self.daemon.marker))

    def end(self) -> None:
        """End it and all below it; fail when anything stays alive."""
        if self.popen.poll() is None:
            for number in (signal.SIGCONT, signal.SIGTERM):
                os.kill(self.pid, number)
        try:
            self.popen.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(STOP_LIMIT_S)
        left = wait_until_none_with(self.daemon.marker, limit_s=5)
        kill_all_with(self.daemon.marker)
        assert left == {}


class SupervisordFactory:
    """Makes supervisords and ends them."""

    def __init__(self, daemons: DaemonFactory) -> None:
        self._daemons = daemons
        self._made: list[Supervisord] = []

    def __call__(
        self,
        fake: str = "",
        *,
        engine: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        config: Path = CONFIG,
        is_pid_1: bool = False,
    ) -> Supervisord:
        """Start one.

        :param fake: modes of the fake engine
        :param engine: a real `ollama` in its place
        """
        chosen = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", **(env or {})}
        model = self._daemons.prepare(fake, engine=engine, env=chosen)
        made = Supervisord(model, config, is_pid_1=is_pid_1)
        self._made.append(made)
        return made

    def end(self) -> None:
        """End all that were made."""
        for made in self._made:
            made.end()


@pytest.fixture
def supervisord(daemon: DaemonFactory) -> Iterator[SupervisordFactory]:
    """A factory of supervisords over the fake engine or the real one."""
    need("the daemon below supervisord", "unshare", "nsenter", "mount")
    factory = SupervisordFactory(daemon)
    yield factory
    factory.end()


class OneTree:
    """Looks all the time, in a thread, of how many lives of the daemon something is alive at the same instant."""

    def __init__(self, marker: str) -> None:
        self.most = 0
        self._marker, self._is_over = marker, threading.Event()
        self._thread = threading.Thread(target=self._run, name="one-tree")

    def __enter__(self) -> OneTree:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            self.most = max(self.most, _n_trees(self._marker))


def _n_trees(marker: str) -> int:
    seen = _lives(marker)
    if len(set(seen.values())) > 1:
        # the one may have died before the other was looked at: it counts if it is alive even now
        seen = _lives(marker, among=seen)
    return len(set(seen.values()))


def _lives(marker: str, among: Mapping[int, str] | None = None) -> dict[int, str]:
    """Processes of the test's engines, with the mark of the life that each carries."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if among is None else list(among)
    found = {}
    for pid in pids:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        life = re.search(rb"(?:^|\0)ARASUL_MARKER=([^\0]+)", environ)
        if life and marker.encode() in environ:
            found[pid] = life[1].decode()
    return found
