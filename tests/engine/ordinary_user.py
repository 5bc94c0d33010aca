"""One person, or one program, at work on the engine: asks, waits, leaves, and notes all of it."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.engine.ordinary_evidence import Deed, Evidence, ask, complaint_in

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.engine.daemon import Daemon
    from tests.engine.registry import Registry

JOB_OR_TEXT = re.compile(r"(?<=pulls/|ha256:)[0-9a-f]+.*|[?%].*")
ENGINE_LOOK_S = 0.05
PORTS = ("engine", "management")
# What people write about when something is broken elsewhere; words that a reader of logs must not fall for.
TALK = (
    "panic: out of memory",
    "Error: CUDA error: out of memory",
    "fatal error: all goroutines are asleep - deadlock!",
    "Error: listen tcp 127.0.0.1:11434: bind: address already in use",
    'time=2026-11-23T07:32:48.871Z level=ERROR source=sched.go:511 msg="Load failed" error="no space left on device"',
    '[GIN] 2026/11/23 - 07:32:49 | 503 |      63.3µs |       127.0.0.1 | POST     "/api/chat"',
    "ggml-cuda.cu:71: GGML_ASSERT(ptr) failed",
    "cudaMalloc failed: out of memory",
    "llama_model_load: error loading model: unknown model architecture: 'x'",
    "common_chat_peg_parse: unparsed peg-native output: x",
    "why is the sky blue?",
)


@dataclass(slots=True)
class Scene:
    """What all users share: the daemon, a registry whose network only one of them troubles, and model files."""

    daemon: Daemon
    registry: Registry
    folder: Path
    gguf: bytes  # a model file that is not installed
    evidence: Evidence = field(default_factory=Evidence)
    is_over: threading.Event = field(default_factory=threading.Event)
    n_names: int = 0


@dataclass(slots=True)
class User:
    """A user with a deck of things to do, drawn by a random generator of its own."""

    name: str
    scene: Scene
    rng: random.Random
    pause_s: float
    act: str = field(default="", init=False)

    def live(self, deck: Sequence[Callable[[User], None]]) -> None:
        """Do everything in the deck once in some order, and again until all is over."""
        while True:
            for act in self.rng.sample(deck, len(deck)):
                self.act = act.__name__
                self._wait_for_the_engine()
                act(self)
                self.scene.evidence.acts[self.act] += 1
                self.scene.is_over.wait(self.rng.uniform(0, self.pause_s))
            if self.scene.is_over.is_set():
                return

    def asks(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        at: str | None = None,
        patience_s: float = 60.0,
    ) -> tuple[int, bytes]:
        """One request to the engine's or the management port, by chance unless said; noted."""
        where = at or self.rng.choice(PORTS)
        port = self.scene.daemon.engine_port if where == "engine" else self.scene.daemon.port
        began = time.time()
        status, content = ask(port, method, path, body, patience_s=patience_s)
        self.scene.evidence.deeds.append(
            Deed(
                began,
                time.time(),
                self.name,
                f"{self.act}: {method} {JOB_OR_TEXT.sub('…', path)} ({where})",
                status,
                complaint_in(status, content),
            )
        )
        return status, content

    def posts(self, path: str, *, at: str | None = None, patience_s: float = 60.0, **body: object) -> bytes:
        """POST of an object; what came back."""
        return self.asks("POST", path, body, at=at, patience_s=patience_s)[1]

    def talk(self) -> str:
        """Something to say."""
        return "\n".join(self.rng.sample(TALK, self.rng.randint(1, 3)))

    def soon(self, at_most_s: float) -> float:
        """An instant at random, in seconds from now."""
        return self.rng.uniform(0.0, at_most_s)

    def _wait_for_the_engine(self) -> None:
        while self.scene.daemon.get("/readyz").status != 200:  # the operator is at it
            time.sleep(ENGINE_LOOK_S)

    @contextmanager
    def begun(self, path: str, **body: object) -> Iterator[None]:
        """A request whose answer nobody reads, dropped at the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.scene.daemon.engine_port, timeout=60)
        try:
            try:
                connection.request("POST", path, body=json.dumps(body))
            except OSError:  # the operator has stopped the engine
                pass
            yield
        finally:
            connection.close()
