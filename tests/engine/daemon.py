"""The daemon under test as its user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.processes import kill_all_with, pick_free_port, wait_until_none_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.engine.fake import FakeEngine

REPOSITORY = Path(__file__).parents[2]
READY_LIMIT_S = 15.0
STOP_LIMIT_S = 12.0
GONE_LIMIT_S = 5.0
MARKER = "TEST_GROUND_MARKER"
"""Variable that everything started by a test carries; our own names would be held back from the engine."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    took_s: float

    def json(self) -> Any:  # Any: tests look into it freely
        """The body as JSON."""
        return json.loads(self.body)


def send(
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
) -> Answer:
    """One request to a port of this host, on a connection of its own.

    :raises OSError: nobody listens, or no answer came in time
    """
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    begun = time.monotonic()
    try:
        connection.request(method, path, body=data, headers=dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, content, time.monotonic() - begun)
    finally:
        connection.close()


@dataclass(slots=True)
class Daemon:
    """One daemon process, its folder, and its two ports."""

    folder: Path
    environment: dict[str, str]
    arguments: tuple[str, ...] = ("run",)
    under: tuple[str, ...] = ()
    popen: subprocess.Popen[bytes] = field(init=False)
    is_started: bool = field(default=False, init=False)

    def start(self) -> Daemon:
        """Start the process; also again after it ended, with the same folders and ports."""
        command = [*self.under, sys.executable, "-m", "arasul_supervisor", *self.arguments]
        with (self.folder / "daemon.out").open("ab") as out, (self.folder / "daemon.err").open("ab") as err:
            self.popen = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.is_started = True
        return self

    @property
    def pid(self) -> int:
        """Pid of the daemon itself."""
        return self.popen.pid

    @property
    def port(self) -> int:
        """The management port."""
        return int(self.environment["ARASUL_PORT"])

    @property
    def engine_port(self) -> int:
        """The engine's port."""
        return int(self.environment["OLLAMA_HOST"].rpartition(":")[2])

    @property
    def url(self) -> str:
        """Address of the management port, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine_url(self) -> str:
        """Address of the engine, without a slash at the end."""
        return f"http://127.0.0.1:{self.engine_port}"

    @property
    def state_dir(self) -> Path:
        """Its state folder."""
        return Path(self.environment["ARASUL_STATE_DIR"])

    @property
    def marker(self) -> str:
        """Text in the environment of everything that this daemon started."""
        return f"{MARKER}={self.environment[MARKER]}"

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 15.0,
        port: int | None = None,
    ) -> Answer:
        """One request to the management port, or to another port of this host.

        :raises OSError: when nobody listens, or no answer came in time
        """
        where = port or self.port
        return send(where, method, path, body=body, headers=headers, timeout_s=timeout_s)

    def get(self, path: str, *, timeout_s: float = 15.0) -> Answer:
        """GET from the management port."""
        return self.request("GET", path, timeout_s=timeout_s)

    def post(self, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = 15.0) -> Answer:
        """POST an object to the management port."""
        return self.request("POST", path, body=body, timeout_s=timeout_s)

    def engine(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """One request straight to the engine's own port."""
        return self.request(method, path, body=body, port=self.engine_port, timeout_s=60)

    def process(self) -> dict[str, Any]:  # Any: tests look into it freely
        """GET /api/process."""
        answer: dict[str, Any] = self.get("/api/process").json()
        return answer

    def wait_ready(self, *, limit_s: float = READY_LIMIT_S) -> Daemon:
        """Wait until /readyz says 200."""
        return self.wait_for(
            lambda: self.get("/readyz").status == 200, what="/readyz is 200", limit_s=limit_s
        )

    def wait_live(self, *, limit_s: float = READY_LIMIT_S) -> Daemon:
        """Wait until /livez says 200, whatever the engine does."""
        return self.wait_for(lambda: self.get("/livez").status == 200, what="/livez is 200", limit_s=limit_s)

    def wait_state(self, state: str, *, limit_s: float = READY_LIMIT_S) -> dict[str, Any]:
        """Wait until /api/process shows that state; that answer."""
        self.wait_for(lambda: self.process()["state"] == state, what=f"state {state}", limit_s=limit_s)
        return self.process()

    def wait_for(self, condition: Callable[[], bool], *, what: str, limit_s: float = READY_LIMIT_S) -> Daemon:
        """Wait until the condition holds, looking every 5 ms; refused connections count as no."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                pytest.fail(
                    f"the daemon exited {self.popen.returncode} before {what}\n{self.log_text()[-4000:]}"
                )
            try:
                if condition():
                    return self
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)
        pytest.fail(f"not within {limit_s:g} s: {what}\n{self.log_text()[-4000:]}")

    def log_text(self) -> str:
        """What the daemon wrote on stdout and stderr, over all its starts."""
        parts = [self.folder / "daemon.out", self.folder / "daemon.err"]
        return "".join(part.read_text(errors="replace") for part in parts if part.exists())

    def engine_log_text(self) -> str:
        """The public engine log."""
        path = Path(self.environment["ARASUL_LOG_FILE"])
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        self.popen.send_signal(number)

    def wait_exit(self, *, limit_s: float = STOP_LIMIT_S) -> int:
        """Wait until the daemon has ended; its exit code (negative: the signal)."""
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the daemon had not ended after {limit_s:g} s\n{self.log_text()[-4000:]}")

    def stop(self, *, limit_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM; its exit code. Nothing when it has ended already."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait_exit(limit_s=limit_s)

    def survivors(self, *, limit_s: float = GONE_LIMIT_S) -> dict[int, str]:
        """What of this daemon is alive after that time, itself included: pid and command line."""
        return wait_until_none_with(self.marker, limit_s=limit_s)


class DaemonFactory:
    """Makes daemons and, at the end, proves that nothing of them is left."""

    def __init__(self, folder: Path, fake: FakeEngine) -> None:
        self._folder = folder
        self._fake = fake
        self._made: list[Daemon] = []

    def __call__(
        self,
        fake: str = "",
        *,
        engine: Path | None = None,
        models: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = ("run",),
        under: tuple[str, ...] = (),
    ) -> Daemon:
        """Start a daemon; the parameters are those of `prepare`."""
        return self.prepare(
            fake, engine=engine, models=models, env=env, arguments=arguments, under=under
        ).start()

    def prepare(
        self,
        fake: str = "",
        *,
        engine: Path | None = None,
        models: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = ("run",),
        under: tuple[str, ...] = (),
    ) -> Daemon:
        """A daemon's folder and environment; whoever asks for it starts it, in what way it likes.

        :param fake: modes of the fake engine (grammar in fake_ollama.py)
        :param engine: a real `ollama` in place of the fake one
        :param models: its model store, an empty one otherwise
        :param env: variables that win over all others; None takes one away
        :param under: a command that executes the daemon in its place
        """
        folder = self._folder / f"daemon{len(self._made)}"
        (folder / "home").mkdir(parents=True)
        (folder / "state").mkdir()
        base = _environment(folder, models)
        chosen = self._fake.environment(fake) if engine is None else {"ARASUL_OLLAMA": str(engine)}
        merged = {**base, **chosen, **(env or {})}
        environment = {name: value for name, value in merged.items() if value is not None}
        daemon = Daemon(folder, environment, arguments, under)
        self._made.append(daemon)
        return daemon

    def end(self) -> None:
        """Stop what runs; fail when one does not stop, or left anything alive."""
        problems = []
        for daemon in self._made:
            problems += _end(daemon)
        if problems:
            pytest.fail("\n".join(problems))


@pytest.fixture
def daemon(tmp_path: Path, fake_engine: FakeEngine) -> Iterator[DaemonFactory]:
    """A factory of daemons over the test's fake engine; `real_daemon` is the one over Ollama."""
    factory = DaemonFactory(tmp_path, fake_engine)
    yield factory
    factory.end()


def _environment(folder: Path, models: Path | None) -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {
        **passed_on,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(folder / "home"),
        "OLLAMA_MODELS": str(models or folder / "models"),
        "OLLAMA_HOST": f"127.0.0.1:{pick_free_port()}",
        "ARASUL_PORT": str(pick_free_port()),
        "ARASUL_STATE_DIR": str(folder / "state"),
        "ARASUL_LOG_FILE": str(folder / "ollama.log"),
        "ARASUL_GPU": "none",
        MARKER: str(folder),
    }


def _end(daemon: Daemon) -> list[str]:
    problems = []
    if daemon.is_started and daemon.popen.poll() is None:
        daemon.signal(signal.SIGCONT)
        daemon.signal(signal.SIGTERM)
        try:
            daemon.popen.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            problems.append(f"daemon {daemon.pid} did not end within {STOP_LIMIT_S:g} s of SIGTERM")
            daemon.popen.kill()
    survivors = daemon.survivors()
    if survivors:
        problems.append(f"left alive by daemon {daemon.pid}: {survivors}")
        kill_all_with(daemon.marker)
    if daemon.is_started:
        daemon.popen.wait(STOP_LIMIT_S)
    print(f"--- {daemon.folder.name} said (last 6000 characters):\n{daemon.log_text()[-6000:]}")
    return problems
