"""Clients of a model that note exactly what they saw."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REQUEST_LIMIT_S = 150.0


@dataclass(slots=True)
class Client:
    """One client of a model, in a thread: what it saw, with monotonic times."""

    port: int
    model: str
    n_tokens: int
    keep_alive: float | None = None
    prompt: str = "a"
    asked_mono: float = 0.0
    tokens_mono: list[float] = field(default_factory=list)
    answers: int = 0  # with `done:true`
    errors: list[tuple[float, str]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    _leaves: threading.Event = field(default_factory=threading.Event)
    _sock: socket.socket | None = None

    def ask_once(self) -> None:
        """One request, up to its end."""
        self.asked_mono = time.monotonic()
        try:
            self._ask()
        except (OSError, http.client.HTTPException) as error:
            self._note(repr(error))
        finally:
            self.is_over.set()

    def ask_again_and_again(self) -> None:
        """One request after the other until it leaves; after an error it waits a little, as clients do."""
        while not self._leaves.is_set():
            n_errors = len(self.errors)
            self.ask_once()
            if len(self.errors) > n_errors:
                self._leaves.wait(0.1)

    def leave(self) -> None:
        """Go away, in the middle of an answer too; what comes of that is no error."""
        self._leaves.set()
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def longest_gap_s(self, since_mono: float, until_mono: float) -> float:
        """The longest time between two tokens in that span, its ends included."""
        within = [at for at in self.tokens_mono if since_mono <= at <= until_mono]
        times = [since_mono, *within, until_mono]
        return max(later - former for former, later in itertools.pairwise(times))

    def _ask(self) -> None:
        body: dict[str, object] = {
            "model": self.model,
            "prompt": self.prompt,
            "options": {"num_predict": self.n_tokens, "seed": 1},
        }
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_LIMIT_S)
        try:
            connection.request("POST", "/api/generate", body=json.dumps(body))
            self._sock = connection.sock
            answer = connection.getresponse()
            n_ends = self.answers + len(self.errors)
            for line in answer:
                self._read(json.loads(line))
            if self.answers + len(self.errors) == n_ends:  # http.client takes a cut answer for a whole one
                self._note("the answer was cut")
        finally:
            connection.close()

    def _read(self, line: Mapping[str, Any]) -> None:  # Any: JSON
        if "error" in line:
            self._note(str(line["error"]))
        elif line.get("done"):
            self.answers += 1
        else:
            self.tokens_mono.append(time.monotonic())

    def _note(self, error: str) -> None:
        if not self._leaves.is_set():
            self.errors.append((time.monotonic(), error))


@contextlib.contextmanager
def asking(client: Client, action: Callable[[], None]) -> Iterator[None]:
    """That action of the client goes on in a thread, inside; then the client leaves."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    try:
        yield
    finally:
        client.leave()
        thread.join()
