"""A model runner of the fake engine, seen by the engine: its life, its health, and a request that it works on."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

END_LIMIT_S = 1.0
LOOK_EVERY_S = 0.02
# Go's client keeps an idle connection so long
IDLE_CONNECTION_S = 90.0


class RunnerDied(Exception):
    """The runner went away while it was asked."""


class RunnerProcess:
    """One child. ≤ 0.29: the connection of a health question is kept, as Go's client keeps it."""

    def __init__(self, pid: int, port: int, family: str) -> None:
        """Reap it when it ends."""
        self.pid, self.port = pid, port
        self.ended = threading.Event()
        self._keeps = family == "0.24"
        self._kept: socket.socket | None = None
        self._asking = threading.Lock()
        threading.Thread(target=self._reap, daemon=True).start()

    def kill(self) -> None:
        """SIGKILL, and wait a second at most until it is reaped."""
        if not self.ended.is_set():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.ended.wait(END_LIMIT_S)

    def is_ready(self, *, timeout_s: float) -> bool:
        """Whether `/health` says that the model is loaded."""
        with self._asking:
            try:
                sock = self._kept or self._connect(timeout_s)
                self._kept = None
                sock.settimeout(timeout_s)
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: runner\r\n\r\n")
                head, body = _read_answer(sock)
            except (OSError, RunnerDied):
                return False
            if self._keeps:
                self._kept = sock
                self._forget_later(sock)
            else:
                sock.close()
        return b" 200 " in head and (b'"ok"' in body or b'"status": 0' in body)

    def complete(self, asked: dict[str, object], is_unwanted: Callable[[], bool]) -> Iterator[None]:
        """One `POST /completion`; yields per token. The connection stands as long as this is not over.

        :raises RunnerDied: it went away
        :raises ConnectionResetError: nobody waits for the answer any more
        """
        body = json.dumps(asked).encode()
        try:
            with self._connect(END_LIMIT_S) as sock:
                head = f"POST /completion HTTP/1.1\r\nHost: runner\r\nContent-Length: {len(body)}\r\n\r\n"
                sock.sendall(head.encode() + body)
                for line in _lines(sock, is_unwanted):
                    if b'"stop":true' in line:
                        return
                    if b'"stop":false' in line:
                        yield
        except _Unwanted:
            raise ConnectionResetError from None
        except OSError:
            raise RunnerDied from None

    def _connect(self, timeout_s: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        self.ended.set()

    def _forget_later(self, sock: socket.socket) -> None:
        def forget() -> None:
            time.sleep(IDLE_CONNECTION_S)
            with self._asking:
                if self._kept is sock:
                    self._kept = None
                    sock.close()

        threading.Thread(target=forget, daemon=True).start()


class _Unwanted(Exception):
    pass


def _read_answer(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _receive(sock)
    return head, body


def _lines(sock: socket.socket, is_unwanted: Callable[[], bool]) -> Iterator[bytes]:
    """The lines of a chunked answer, its head and the lengths of the chunks among them, for ever."""
    data = b""
    while True:
        while not select.select([sock], [], [], LOOK_EVERY_S)[0]:
            if is_unwanted():
                raise _Unwanted
        *lines, data = (data + _receive(sock)).split(b"\n")
        yield from lines


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise RunnerDied
    return data
