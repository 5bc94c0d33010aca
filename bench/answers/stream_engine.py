"""An engine that only streams, for what the way through the daemon costs: `stream_engine serve`, in Ollama's place.

POST /api/generate      {"model", "lines": n, "per_s": 500} → n NDJSON lines, each written alone as a chunk at an
                        even pace (0: as fast as it goes), each with the instant of its writing in `at_ns`
POST /api/blobs/…       swallows the body, tells its length
GET  /api/bytes?n=…     a body of n bytes
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

VERSION: Final = "0.34.4"
PIECE_BYTES: Final = 1 << 20
LINE: Final = (
    b'{"model":"tiny:latest","created_at":"2026-11-23T14:12:40.931971924Z","response":" w","done":false,'
    b'"at_ns":%d}\n'
)


def make_stream_engine(folder: Path) -> Path:
    """A program in the folder that the daemon can be told to run as its engine."""
    program = folder / "ollama"
    this = Path(__file__).resolve()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S -E '{this}' \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    return program


class Handler(BaseHTTPRequestHandler):
    """One connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_OPTIONS(self) -> None:
        """The daemon's heartbeat."""
        self._answer(b"")

    def do_GET(self) -> None:
        """What the daemon asks for, and bodies of any size."""
        target = urlsplit(self.path)
        if target.path == "/api/bytes":
            self._send_bytes(int(parse_qs(target.query)["n"][0]))
            return
        known = {"/api/version": {"version": VERSION}, "/api/tags": {"models": []}, "/api/ps": {"models": []}}
        self._answer(
            json.dumps(known.get(target.path, {})).encode(), status=200 if target.path in known else 404
        )

    def do_POST(self) -> None:
        """A stream, or a body to be swallowed."""
        if self.path == "/api/generate":
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._stream(asked["lines"], asked["per_s"])
            return
        self._answer(json.dumps({"bytes": self._swallow(int(self.headers["Content-Length"]))}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Write no line for each request."""

    def _stream(self, lines: int, per_s: float) -> None:
        self._head("Transfer-Encoding", "chunked", "application/x-ndjson")
        period_s = 1 / per_s if per_s else 0.0
        head = b"%x\r\n" % len(LINE % time.monotonic_ns())
        send, now_ns = self.connection.sendall, time.monotonic_ns
        due_s = time.monotonic()
        for _ in range(lines):
            if period_s:
                due_s += period_s
                time.sleep(max(0.0, due_s - time.monotonic()))
            send(b"%b%b\r\n" % (head, LINE % now_ns()))
        send(b"0\r\n\r\n")

    def _send_bytes(self, n_bytes: int) -> None:
        self._head("Content-Length", str(n_bytes), "application/octet-stream")
        piece = bytes(PIECE_BYTES)
        for _ in range(n_bytes // PIECE_BYTES):
            self.connection.sendall(piece)
        self.connection.sendall(piece[: n_bytes % PIECE_BYTES])

    def _swallow(self, n_bytes: int) -> int:
        buffer, n_read = bytearray(PIECE_BYTES), 0
        while n_read < n_bytes and (n_more := self.rfile.readinto(memoryview(buffer)[: n_bytes - n_read])):
            n_read += n_more
        return n_read

    def _answer(self, body: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.connection.sendall(body)

    def _head(self, length: str, value: str, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header(length, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Says nothing of clients that leave."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left in the middle is part of the game; all else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


def main(arguments: list[str]) -> None:
    """Serve, or tell a version."""
    if arguments[:1] != ["serve"]:
        print(f"ollama version is {VERSION}")
        return
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    Server((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
