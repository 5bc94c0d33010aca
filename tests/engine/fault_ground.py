"""What a fault of the real engine is brought about with: how it is started, and the engine once it runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.engine.daemon import send
from tests.engine.processes import pids_with, wait_until
from tests.engine.store import install_model
from tests.engine.tiny_gguf import NORMAL, Shape

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles

SHOWN_BYTES = 400
TINY_LIMIT_S = 60.0


@dataclass(slots=True)
class Start:
    """How an engine is going to be started. A fault may change all of it; what it opens it leaves to `at_end`."""

    folder: Path  # the fault's own, empty
    binary: Path
    store: Path
    port: int
    environment: dict[str, str]
    at_end: contextlib.ExitStack
    under: tuple[str, ...] = ()  # a command that executes the engine in its place


@dataclass(slots=True)
class Ground:
    """A running engine, alone or below a daemon, with all that a fault needs; it notes what its clients saw."""

    port: int
    store: Path
    marker: str  # text in the environment of the engine and its runners
    models: ModelFiles
    registry: Registry
    said: list[str] = field(default_factory=list)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        timeout_s: float = TINY_LIMIT_S,
    ) -> bytes:
        """One request; the body of the answer, empty when none came."""
        try:
            answer = send(self.port, method, path, body=body, timeout_s=timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.said.append(f"{method} {path} {_shown(body)} -> no answer: {error!r}")
            return b""
        self.said.append(f"{method} {path} {_shown(body)} -> {answer.status} {_shown(answer.body)}")
        return answer.body

    def generate(
        self,
        model: str = "tiny",
        *,
        prompt: str = "a",
        options: Mapping[str, object] | None = None,
        timeout_s: float = TINY_LIMIT_S,
    ) -> bytes:
        """A short answer of a model, as one object."""
        body = {
            "model": model,
            "prompt": prompt,
            "stream": False,
            "options": {"num_predict": 4, **(options or {})},
        }
        return self.request("POST", "/api/generate", body, timeout_s=timeout_s)

    @contextlib.contextmanager
    def answering(self, model: str = "tiny", *, n_tokens: int = 100_000) -> Iterator[None]:
        """The model is in the middle of an answer, inside; at the end its client reads on. 100 tokens take 0.2 s."""
        body = {"model": model, "prompt": "a", "options": {"num_predict": n_tokens, "seed": 1}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TINY_LIMIT_S)
        connection.request("POST", "/api/generate", body=json.dumps(body))
        answer = connection.getresponse()
        last = answer.readline()
        yield
        try:
            for line in answer:
                last = line
            ended = "stream ended"
        except (OSError, http.client.HTTPException) as error:
            ended = f"stream broke: {error!r}"
        finally:
            connection.close()
        self.said.append(f"POST /api/generate {_shown(body)} -> {answer.status} … {_shown(last)} {ended}")

    @contextlib.contextmanager
    def meanwhile(
        self, method: str, path: str, body: Mapping[str, object], *, timeout_s: float = TINY_LIMIT_S
    ) -> Iterator[None]:
        """That request is under way, inside; at the end it is waited for."""
        asking = threading.Thread(
            target=self.request, args=(method, path, body), kwargs={"timeout_s": timeout_s}, daemon=True
        )
        asking.start()
        yield
        asking.join()

    def abandon(self, path: str, body: Mapping[str, object], *, after_s: float) -> None:
        """A request whose client goes away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TINY_LIMIT_S)
        connection.request("POST", path, body=json.dumps(body))
        time.sleep(after_s)
        connection.close()
        self.said.append(f"POST {path} {_shown(body)} -> client left after {after_s:g} s")

    def pull(self, model: str, *, timeout_s: float = TINY_LIMIT_S) -> list[bytes]:
        """Pull from the registry of the tests, and leave at the limit however much is said; the lines."""
        body = {"model": model, "insecure": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * timeout_s)
        connection.request("POST", "/api/pull", body=json.dumps(body))
        hang_up = threading.Timer(timeout_s, connection.sock.shutdown, [socket.SHUT_RDWR])
        hang_up.start()
        lines: list[bytes] = []
        with contextlib.suppress(OSError, http.client.HTTPException):
            lines.extend(connection.getresponse())
        left = "" if hang_up.is_alive() else f", client left after {timeout_s:g} s"
        hang_up.cancel()
        hang_up.join()
        connection.close()
        last = _shown(lines[-1]) if lines else "no answer"
        self.said.append(f"POST /api/pull {_shown(body)} -> {len(lines)} lines, last {last}{left}")
        return lines

    def install(self, name: str, shape: Shape = NORMAL) -> str:
        """Put a model into the store; its digest."""
        return install_model(self.store, name, self.models(shape))

    def runner_pids(self) -> list[int]:
        """The processes that hold models."""
        return [pid for pid, command in pids_with(self.marker).items() if " --model " in command]

    def wait_runner(self) -> int:
        """Wait until a runner appears in /proc; its pid."""
        wait_until(self.runner_pids, limit_s=30, what="a runner appears")
        return self.runner_pids()[0]

    def signal_runner(self, number: signal.Signals) -> None:
        """Send a signal to the runner that there is."""
        os.kill(self.wait_runner(), number)

    def server_pid(self) -> int:
        """The process of `ollama serve`."""
        return next(
            pid for pid, command in pids_with(self.marker).items() if command.endswith("ollama serve")
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `prepare` changes how the engine is started, `drive` brings the fault about on the running one."""

    drive: Callable[[Ground], object]
    prepare: Callable[[Start], None] = lambda _: None
    is_refusal: bool = False  # the engine ends by itself and never answers
    family: str = ""  # "0.24" or "0.34" when it is possible on that one only
    needs_root: bool = False


def nothing(ground: Ground) -> None:
    """The start alone is the fault."""


def variables(**chosen: str | None) -> Callable[[Start], None]:
    """A preparation: these variables, None for absent."""

    def prepare(start: Start) -> None:
        for name, value in chosen.items():
            if value is None:
                start.environment.pop(name, None)
            else:
                start.environment[name] = value

    return prepare


# llama.cpp has gdb or lldb write the backtrace of an assertion, where it finds one: some hundred lines
without_debugger: Callable[[Start], None] = variables(PATH="/nonexistent")


def _shown(body: bytes | Mapping[str, object] | None) -> str:
    text = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    cut = f"… ({len(text)} bytes)" if len(text) > SHOWN_BYTES else ""
    return text[:SHOWN_BYTES].decode(errors="replace").strip() + cut
