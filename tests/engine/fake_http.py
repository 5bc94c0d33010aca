"""Just enough of an HTTP/1.1 server for the fake engine: one thread per connection, quick to import."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Answer = Callable[["Connection", "Request"], None]

REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


class Request:
    """One request as it came."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.path = target.partition("?")[0]
        self.headers = headers
        self.body = body

    def json(self) -> dict[str, object]:
        """The body as an object; {} when it is none."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Connection:
    """One client; answers are written through it, well or badly formed."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self.is_open = True
        self.status = 200  # of the last answer

    def read_request(self) -> Request | None:
        """The next request, or None when the client is gone."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ", 2)
        headers = {
            key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)
        }
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._read_chunks() if "chunked" in headers.get("transfer-encoding", "") else b""
        body = body or self._read(int(headers.get("content-length", 0)))
        return Request(method, target, headers, body)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if data.startswith(b"HTTP/1.1 ") and data[9:12].isdigit():
            self.status = int(data[9:12])
        self._sock.sendall(data)

    def answer(
        self, request: Request, status: int, body: bytes, kind: str = "application/json; charset=utf-8"
    ) -> None:
        """Send a whole answer."""
        self.send(
            head(status, kind, f"Content-Length: {len(body)}") + (b"" if request.method == "HEAD" else body)
        )

    def answer_json(self, request: Request, value: object, status: int = 200) -> None:
        """Send a value as JSON."""
        self.answer(request, status, json.dumps(value).encode())

    def stream(self, lines: Iterable[bytes], kind: str = "application/x-ndjson") -> None:
        """Send lines as chunks, each at once."""
        self.send(head(200, kind, "Transfer-Encoding: chunked"))
        for line in lines:
            self.send(b"%x\r\n%s\r\n" % (len(line), line))
        self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """Close at once."""
        self.is_open = False
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

    def wait_until_gone(self) -> None:
        """Wait until the client has gone away."""
        while self._fill():
            pass
        self.close()

    def _fill(self) -> bool:
        data = self._sock.recv(65536)
        self._buffer += data
        return bool(data)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._fill():
                break
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _read_chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                if not self._fill():
                    return body
            size_text, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(size_text.partition(b";")[0], 16)
            body += self._read(size)
            self._read(2)
            if size == 0:
                return body


def head(status: int, kind: str, length: str) -> bytes:
    """Head of an answer."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Type: {kind}", length]
    lines.append(time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def logged(answer: Answer) -> Answer:
    """The same, and a line in the engine's log about each request; a runner writes none."""

    def answer_and_log(connection: Connection, request: Request) -> None:
        begun = time.monotonic()
        answer(connection, request)
        if request.target != "*":
            _log_access(request, connection.status, time.monotonic() - begun)

    return answer_and_log


def serve_connections(listener: socket.socket, answer: Answer) -> None:
    """Accept in a thread, and each connection in one of its own."""

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(Connection(sock), answer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _serve(connection: Connection, answer: Answer) -> None:
    try:
        while connection.is_open:
            request = connection.read_request()
            if request is None:
                break
            answer(connection, request)
            if request.headers.get("connection", "").lower() == "close":
                break
    except (ConnectionError, TimeoutError, ValueError):
        pass
    finally:
        if connection.is_open:
            connection.close()


def _log_access(request: Request, status: int, took_s: float) -> None:
    # [GIN] 2026/11/23 - 07:32:49 | 200 |      63.314µs |       127.0.0.1 | GET      "/api/version"
    now = time.strftime("%Y/%m/%d - %H:%M:%S")
    what = f'{took_s * 1e6:12.3f}µs |       127.0.0.1 | {request.method:8} "{request.target}"'
    os.write(1, f"[GIN] {now} | {status} | {what}\n".encode())
