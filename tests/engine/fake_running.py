"""A fake engine that runs without a daemon over it."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.daemon import MARKER, Answer, send
from tests.engine.processes import kill_all_with, pids_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.engine.fake import FakeEngine


class Running:
    """A fake engine without a daemon, in a session of its own."""

    def __init__(self, engine: FakeEngine, port: int, modes: str, folder: Path, **more: str) -> None:
        self.port, self.log, self.marker = port, folder / "log", f"{MARKER}={folder}"
        environment = {
            **engine.environment(modes, **more),
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            MARKER: str(folder),
        }
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [str(engine.binary), "serve"], env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        body: Mapping[str, object] | None = None,
        timeout_s: float = 5,
    ) -> Answer:
        """One request to it."""
        return send(self.port, method, path, body=body, timeout_s=timeout_s)

    def wait_ready(self) -> Running:
        """Wait until it answers."""
        wait_until(self._answers, limit_s=5, what="the fake engine answers")
        return self

    def end(self) -> None:
        """Kill it with all that it made."""
        kill_all_with(self.marker)
        self.popen.wait()

    def _answers(self) -> bool:
        try:
            return self.ask("/api/version").status == 200
        except OSError:
            return False


@pytest.fixture
def start(fake_engine: FakeEngine, free_port: int, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """`start("crash,code=3", OLLAMA_MAX_QUEUE="2")` starts a fake engine."""
    made: list[Running] = []

    def begin(modes: str, **more: str) -> Running:
        made.append(Running(fake_engine, free_port, modes, tmp_path, **more))
        return made[-1]

    yield begin
    for running in made:
        running.end()


def generate(running: Running, model: str = "tiny", *, timeout_s: float = 5, **more: object) -> Answer:
    """A whole answer of a model."""
    body = {"model": model, "prompt": "a", "stream": False, **more}
    return running.ask("/api/generate", "POST", body=body, timeout_s=timeout_s)


def runners(running: Running) -> dict[int, str]:
    """Its model runners, orphans among them: pid and command line."""
    return {pid: command for pid, command in pids_with(running.marker).items() if " --model " in command}


def port_of(command: str) -> int:
    """The port in a runner's command line."""
    return int(command.partition("--port ")[2].split()[0])


def listed(running: Running) -> dict[str, str]:
    """Name and expiry of what `/api/ps` lists."""
    return {one["name"]: one["expires_at"] for one in running.ask("/api/ps").json()["models"]}


def connections(port: int) -> int:
    """Established connections to that port of this host, as the runner's end sees them."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:4] for line in lines]
    return sum(local.endswith(f":{port:04X}") and state == "01" for local, _, state in ends)


def slot(port: int) -> Any:  # Any: JSON
    """The one slot of a llama-server."""
    return send(port, "GET", "/slots", timeout_s=1).json()[0]


@contextmanager
def answering(running: Running) -> Iterator[list[bytes]]:
    """A long answer is under way inside, of which a token has come; its lines so far. Then its client leaves."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    body = {"model": "tiny", "prompt": "a", "options": {"num_predict": 10_000}}
    connection.request("POST", "/api/generate", body=json.dumps(body))
    sock, lines = connection.sock, list[bytes]()
    answer = connection.getresponse()

    def read() -> None:
        with suppress(OSError, http.client.HTTPException):
            lines.extend(answer)

    reading = threading.Thread(target=read)
    reading.start()
    wait_until(lambda: lines, limit_s=5, what="a token")
    try:
        yield lines
    finally:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        reading.join()
        answer.close()
        connection.close()


@contextmanager
def asked_aside(running: Running, model: str = "tiny") -> Iterator[list[Answer]]:
    """A request that may have to wait, in a thread; its answer, once there is one."""
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(generate(running, model, timeout_s=15)))
    asking.start()
    yield answers
    asking.join()


def listens(port: int) -> bool:
    """Whether a runner answers there."""
    try:
        send(port, "GET", "/health", timeout_s=1)
    except OSError:
        return False
    return True
