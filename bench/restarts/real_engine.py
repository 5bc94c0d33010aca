"""The real Ollama for the benches of restarts: started bare, killed, and asked until it answers."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.engine.daemon import MARKER, REPOSITORY
from tests.engine.processes import kill_all_with

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_S: Final = 0.001
LIMIT_S: Final = 30.0
ANSWER_LIMIT_S: Final = 60.0
REQUEST: Final = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
OWN_VARIABLES: Final = frozenset({"ARASUL_MARKER", "OLLAMA_HOST"})
"""What the daemon sets anew in each life: its mark on what it started, and the port."""


def find_ollama() -> Path | None:
    """The real `ollama` that `make ollama` found or built; None where there is none."""
    installed = REPOSITORY / ".cache" / "engine" / "current" / "bin" / "ollama"
    chosen = Path(os.environ.get("ARASUL_OLLAMA") or installed)
    return chosen if os.access(chosen, os.X_OK) else None


@dataclass(frozen=True, slots=True)
class Comeback:
    """Instants in nanoseconds of the monotonic clock: the start of the outage, the first connect, the first 200."""

    began_ns: int
    gone_ns: int  # the old process was dead; of a cold start the spawn's return
    connected_ns: int
    answered_ns: int

    @property
    def outage_ms(self) -> float:
        """From the kill, or the spawn, to the first 200."""
        return (self.answered_ns - self.began_ns) / 1e6

    @property
    def until_gone_ms(self) -> float:
        """Of that: until the old process was dead, or the spawn had returned."""
        return (self.gone_ns - self.began_ns) / 1e6

    @property
    def until_connect_ms(self) -> float:
        """Of that: from then until somebody listened."""
        return (self.connected_ns - self.gone_ns) / 1e6

    @property
    def until_answer_ms(self) -> float:
        """Of that: from the connect to the answer, in which Ollama looks for GPUs."""
        return (self.answered_ns - self.connected_ns) / 1e6


def kill_and_see(pid: int, port: int) -> Comeback:
    """SIGKILL an engine, and ask its port from its death on until the next one answers."""
    pidfd = os.pidfd_open(pid)
    began_ns = time.monotonic_ns()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    gone_ns = _wait_for_death(pidfd)  # what is dying might still answer
    return _comeback(began_ns, port, gone_ns=gone_ns)


class ColdStart:
    """A bare `ollama serve`, started as a daemon starts it; entered once it answers, killed at the end."""

    def __init__(self, ollama: Path, environment: Mapping[str, str], port: int, log: Path) -> None:
        """Start nothing yet.

        :param log: a file to which its output is appended
        """
        self.port = port
        self._ollama, self._log = ollama, log
        self._environment = {**environment, "OLLAMA_HOST": f"127.0.0.1:{port}", MARKER: str(log)}

    def __enter__(self) -> ColdStart:
        began_ns = time.monotonic_ns()
        self._server = self._spawn()
        try:
            self.comeback = _comeback(began_ns, self.port)
            """Of its start."""
        except TimeoutError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        kill_all_with(f"{MARKER}={self._log}")

    def kill_and_start_again(self) -> Comeback:
        """The least that anybody can do: wait for the death, kill the group, reap, spawn."""
        pidfd = os.pidfd_open(self._server.pid)
        began_ns = time.monotonic_ns()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        gone_ns = _wait_for_death(pidfd)
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self._server = self._spawn()
        return _comeback(began_ns, self.port, gone_ns=gone_ns)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(
                [str(self._ollama), "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


def environment_of(engine_pid: int) -> dict[str, str]:
    """What a running engine was started with, apart from what each life of a daemon sets anew."""
    pairs = Path(f"/proc/{engine_pid}/environ").read_bytes().decode().split("\0")
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {name: value for name, value in given.items() if name not in OWN_VARIABLES}


def load_and_answer(port: int, model: str, *, n_tokens: int = 1) -> int:
    """Have a model answer, loading it first where it is not; the instant at which it had.

    :raises RuntimeError: it did not
    """
    body = json.dumps(
        {"model": model, "prompt": "a", "stream": False, "options": {"num_predict": n_tokens}}
    ).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("POST", "/api/generate", body)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    finally:
        connection.close()
    if not said.get("done"):
        raise RuntimeError(f"{model} answered {answer.status}: {said}")
    return time.monotonic_ns()


def loaded_names(port: int) -> list[str]:
    """The models in `/api/ps`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", "/api/ps")
        return [model["name"] for model in json.loads(connection.getresponse().read())["models"]]
    finally:
        connection.close()


def _wait_for_death(pidfd: int) -> int:
    """The instant at which it was seen; closes the descriptor."""
    try:
        select.select([pidfd], [], [])
        return time.monotonic_ns()
    finally:
        os.close(pidfd)


def _comeback(began_ns: int, port: int, *, gone_ns: int | None = None) -> Comeback:
    """Connect every millisecond; once connected, keep one request pending until it is answered.

    :raises TimeoutError: it never was
    """
    gone_ns = gone_ns or time.monotonic_ns()
    end_ns = gone_ns + int(LIMIT_S * 1e9)
    while time.monotonic_ns() < end_ns:
        try:
            with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
                connected_ns = time.monotonic_ns()
                connection.sendall(REQUEST)
                if connection.recv(4096).startswith(b"HTTP/1.1 200 "):
                    return Comeback(began_ns, gone_ns, connected_ns, time.monotonic_ns())
        except OSError:
            pass
        time.sleep(RETRY_S)
    raise TimeoutError(f"nothing answered on port {port} within {LIMIT_S:g} s")
