"""One container of our image: what a test sees of it from the host and from inside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.daemon import REPOSITORY, Answer, send
from tests.engine.processes import is_alive, pick_free_port, wait_until
from tests.system.ground.docker import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.ground.docker import Docker

    Run = Callable[..., "Container"]

REGISTRY_PORT = 5000
# in the container's network, where its loopback is: so the model's name needs no address of this machine
_REGISTRY = f"""
import sys
from pathlib import Path
from tests.engine.registry import start_registry
registry = start_registry({REGISTRY_PORT})
print(registry.put("tiny", Path(sys.argv[1])), flush=True)
sys.stdin.read()
registry.stop()
"""


@dataclass(frozen=True, slots=True)
class Container:
    """A container by name, with the port of this host on which its management API is published."""

    docker: Docker
    name: str
    port: int

    def exec(self, *words: str) -> str:
        """What a command says inside; the test fails when the command does."""
        return self.docker("exec", self.name, *words)

    def get(self, path: str) -> Answer:
        """One request to the management API, from the host."""
        return send(self.port, "GET", path, timeout_s=5)

    def process(self) -> Any:  # Any: tests look into it freely
        """The engine, as the management API tells it."""
        return self.get("/api/process").json()

    def wait_ready(self, *, limit_s: float = 20) -> Container:
        """Wait until the engine answers; itself."""
        wait_until(self._is_ready, limit_s=limit_s, what=f"/readyz of {self.name}")
        return self

    def wait_health(self, word: str, *, limit_s: float = 30) -> None:
        """Wait until Docker's own health check says so."""
        wait_until(lambda: self.state["Health"]["Status"] == word, limit_s=limit_s, what=f"health {word}")

    def wait_exit(self, *, limit_s: float = 20) -> int:
        """Wait until it has ended; its exit code."""
        wait_until(lambda: self.state["Status"] == "exited", limit_s=limit_s, what=f"the end of {self.name}")
        return int(self.state["ExitCode"])

    @property
    def state(self) -> Any:  # Any: tests look into it freely
        """What Docker knows of it: `Status`, `ExitCode`, `Pid`, `Health`."""
        return self.docker.inspect(self.name)["State"]

    @property
    def pid(self) -> int:
        """Process 1, by its pid on the host."""
        return int(self.state["Pid"])

    def pids(self) -> list[int]:
        """Every process inside, by its pid on the host."""
        return [int(line) for line in self.docker("top", self.name, "-o", "pid").split()[1:]]

    def logs(self) -> str:
        """All that it said on stdout."""
        return self.docker("logs", self.name)

    def errors(self) -> str:
        """All that it said on stderr."""
        return self.docker("logs", self.name, gives="stderr")

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False


@pytest.fixture
def run(docker: Docker) -> Iterator[Run]:
    """`run("--init")`: a container of the image with these options; removed at the end with its own volumes."""
    names = []

    def start(*options: str) -> Container:
        name, port = f"arasul-test-{uuid.uuid4().hex[:8]}", pick_free_port()
        names.append(name)
        docker("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:11436", *options, IMAGE)
        return Container(docker, name, port)

    yield start
    for name in names:
        docker("rm", "--force", "--volumes", name)


@contextlib.contextmanager
def registry_in(container: Container, gguf: Path) -> Iterator[str]:
    """A registry on the container's own loopback that offers the model file; its full name there."""
    enter = ["nsenter", "--target", str(container.pid), "--net"]
    command = [*enter, sys.executable, "-c", _REGISTRY, str(gguf)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as registry:
        assert registry.stdout is not None
        yield registry.stdout.readline().strip()
        registry.communicate(timeout=20)


def command_of(pid: int) -> list[str]:
    """The words that a process of the host was started with."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def wait_dead(pids: list[int], *, limit_s: float = 10) -> None:
    """Wait until none of these processes runs."""
    wait_until(lambda: not any(map(is_alive, pids)), limit_s=limit_s, what=f"the end of {pids}")
