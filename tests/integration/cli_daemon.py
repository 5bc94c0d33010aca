"""A stand-in for the daemon: a real HTTP server in a thread that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a whole `body`, or NDJSON `lines` in chunks.

    `ending` is what comes last: `end` the proper end, `cut` a closed connection, `hold` nothing at all until
    the test is over.
    """

    status: int = 200
    body: bytes = b""
    lines: tuple[Mapping[str, object], ...] | None = None
    ending: str = "end"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in."""

    method: str
    target: str
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class DaemonDouble:
    """Answers each path with its replies in turn; the last one stays."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.is_over = threading.Event()
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                double.answer(self)

            def do_POST(self) -> None:
                double.answer(self)

            def do_DELETE(self) -> None:
                double.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that server_close() joins them
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> DaemonDouble:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()

    def says(self, method: str, path: str, body: object, *, status: int = 200) -> None:
        """Adds a reply with a JSON body."""
        self.replies(method, path, Reply(status, json.dumps(body).encode()))

    def replies(self, method: str, path: str, *replies: Reply) -> None:
        """Adds replies."""
        self._replies.setdefault((method, path), []).extend(replies)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        asked = Asked(request.command, request.path, body)
        with self._lock:
            self.asked.append(asked)
            known = self._replies.get((asked.method, asked.path), [Reply(404, b'{"error": "no such path"}')])
            reply = known.pop(0) if len(known) > 1 else known[0]
        request.close_connection = True
        if reply.lines is None:
            self._send_whole(request, reply)
        else:
            self._send_lines(request, reply, reply.lines)

    def _send_whole(self, request: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.ending == "hold":
            self.is_over.wait(PATIENCE_S)
        if reply.ending != "end":
            return
        request.send_response(reply.status)
        request.send_header("Content-Length", str(len(reply.body)))
        request.end_headers()
        request.wfile.write(reply.body)

    def _send_lines(
        self, request: BaseHTTPRequestHandler, reply: Reply, lines: tuple[Mapping[str, object], ...]
    ) -> None:
        request.send_response(reply.status)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for line in lines:
            content = json.dumps(line).encode() + b"\n"
            request.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        if reply.ending == "hold":
            self.is_over.wait(PATIENCE_S)
        if reply.ending == "end":
            request.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonDouble]:
    """A stand-in that the command line finds by its environment."""
    with DaemonDouble() as double:
        monkeypatch.setenv("ARASUL_URL", double.url)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing here may heed it
        yield double
