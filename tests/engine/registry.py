"""A model registry on a loopback port, in threads of the test process, with a switch for each way to fail.

Pull from it by `registry.name("tiny")` with `"insecure": true`. The wire is that of facts measured on Ollama: manifest,
HEAD of each blob, GET without a range (whose `Location` is needed, its body dropped), then GETs with ranges.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.engine.store import MANIFEST_KIND, Layers, layers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 16_384
SILENCE_LIMIT_S = 300.0
PATH = re.compile(r"/v2/(?P<name>[^/]+/[^/]+)/(?P<kind>manifests|blobs)/(?P<what>[^/]+)")


@dataclass(slots=True)
class Switches:
    """How the registry fails; may be changed at any time, and holds for answers under way too."""

    bytes_per_s: float = 0.0  # of each range; 0 = as fast as it goes
    stalls_before_first_byte: bool = False
    stall_after_bytes: int | None = None  # of each range
    silent_on: frozenset[str] = frozenset()  # of `manifest`, `HEAD`, `GET` (the one without range), `range`
    flip_byte_at: int | None = None  # position in the model blob
    close_after_bytes: int | None = None  # of each range
    manifest_status: int = 200
    retry_after: str | None = None  # header of every answer that is no success
    blob_status: int = 200
    sends_location: bool = True
    faults_left: int | None = None  # stall, silence and close happen only so often; None = always


@dataclass(frozen=True, slots=True)
class Served:
    """One request and what went out for it."""

    method: str
    path: str
    first: int | None  # of a range
    last: int | None
    sent_bytes: int
    agent: str = (
        ""  # Ollama calls itself `ollama/0.34.4 (amd64 linux) Go/go1.26.x`, the daemon `arasul-supervisor`
    )

    @property
    def is_of_ollama(self) -> bool:
        """True unless the daemon itself asked."""
        return not self.agent.startswith("arasul-supervisor")


@dataclass(slots=True)
class Registry:
    """The running registry."""

    server: ThreadingHTTPServer
    switches: Switches = field(default_factory=Switches)
    served: list[Served] = field(default_factory=list)
    models: dict[str, Layers] = field(default_factory=dict)  # by `library/tiny:latest`
    closing: threading.Event = field(default_factory=threading.Event)
    sockets: set[socket.socket] = field(default_factory=set)

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.server.server_address[1]}"

    def name(self, model: str) -> str:
        """The full name under which the engine pulls and lists the model: `127.0.0.1:port/library/tiny:latest`."""
        return f"{self.address}/library/{model if ':' in model else model + ':latest'}"

    def put(self, model: str, gguf: Path) -> str:
        """Offer a model file under a name; its full name."""
        return self.put_bytes(model, gguf.read_bytes())

    def put_bytes(self, model: str, content: bytes) -> str:
        """Offer any bytes as a model (large ones for pulls in several parts: parts are 100 MB and more)."""
        name = self.name(model)
        self.models[name.partition("/")[2]] = layers_of(content)
        return name

    def ranges(self) -> list[Served]:
        """The parts that were asked for."""
        return [entry for entry in self.served if entry.first is not None]

    def requests(self, kind: str) -> int:
        """Number of Ollama's requests so far: `manifest`, `HEAD`, `GET` (without range), `range`."""
        return sum(1 for entry in self.served if entry.is_of_ollama and _kind_of(entry) == kind)

    def looks(self) -> int:
        """Number of manifests that the daemon itself asked for."""
        return sum(1 for entry in self.served if not entry.is_of_ollama)

    def stop(self) -> None:
        """Close the port and every connection."""
        self.closing.set()
        self.server.shutdown()
        for open_socket in list(self.sockets):
            _shut(open_socket)
        self.server.server_close()  # joins the threads of all requests


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry of this test's own, empty."""
    running = start_registry()
    yield running
    running.stop()


def start_registry(port: int = 0) -> Registry:
    """Start a registry on a port of 127.0.0.1."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.registry = Registry(server)
    threading.Thread(target=server.serve_forever, args=(0.02,), name="registry", daemon=True).start()
    return server.registry


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    registry: Registry

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients drop connections all the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._registry = self.server.registry
        self._registry.sockets.add(self.connection)

    def finish(self) -> None:
        self._registry.sockets.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Size of a blob."""
        self._answer()

    def do_GET(self) -> None:
        """Manifest, or a blob, or a part of one."""
        self._answer()

    def _answer(self) -> None:
        found = PATH.fullmatch(self.path)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        kind = _kind(self.command, self.path, span is not None)
        switches = self._registry.switches
        if kind in switches.silent_on and self._takes_fault():
            self._note(0, int(span[1]) if span else None, int(span[2]) if span else None)
            self._be_silent()
        elif found is None:
            self._send_status(404)
        elif kind == "manifest":
            self._send_manifest(f"{found['name']}:{found['what']}")
        else:
            blob = self._blob(found["what"])
            if blob is None or switches.blob_status != 200:
                self._send_status(404 if blob is None else switches.blob_status)
            elif span is None:
                self._send_whole(blob)
            else:
                self._send_part(blob, int(span[1]), int(span[2]))

    def _blob(self, digest: str) -> bytes | None:
        for layers in self._registry.models.values():
            if digest in layers.blobs:
                return layers.blobs[digest]
        return None

    def _send_manifest(self, name: str) -> None:
        status, layers = self._registry.switches.manifest_status, self._registry.models.get(name)
        if status != 200 or layers is None:
            self._send_status(404 if status == 200 else status)
            return
        self._begin(200, len(layers.manifest), {"Content-Type": MANIFEST_KIND})
        self.wfile.write(layers.manifest)
        self._note(len(layers.manifest), None, None)

    def _send_status(self, status: int) -> None:
        body = b"boom"
        self._note(len(body), None, None)
        retry_after = self._registry.switches.retry_after
        self._begin(status, len(body), {"Retry-After": retry_after} if retry_after else {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_whole(self, blob: bytes) -> None:
        self._note(0, None, None)
        location = {"Location": self.path} if self._registry.switches.sends_location else {}
        self._begin(200, len(blob), location)
        if self.command == "GET":
            # the client takes the address and drops the body: nothing is lost by not sending all of it
            self.wfile.write(blob[:CHUNK_BYTES])
            if len(blob) > CHUNK_BYTES:
                self.close_connection = True

    def _send_part(self, blob: bytes, first: int, last: int) -> None:
        part = blob[first : last + 1]
        flip = self._registry.switches.flip_byte_at
        if flip is not None and first <= flip <= last:
            place = flip - first
            part = part[:place] + bytes([part[place] ^ 0xFF]) + part[place + 1 :]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(blob)}"}
        sent = 0
        try:
            if self._registry.switches.stalls_before_first_byte and self._takes_fault():
                self._be_silent()
                return
            self._begin(206, len(part), headers)
            while sent < len(part):
                sent += self._send_chunk(part, sent)
                if sent < len(part) and self._fails_after(sent):
                    return
        finally:
            self._note(sent, first, last)

    def _send_chunk(self, part: bytes, sent: int) -> int:
        switches = self._registry.switches
        size = CHUNK_BYTES
        if switches.bytes_per_s:
            size = max(1, min(CHUNK_BYTES, int(switches.bytes_per_s / 20)))
            time.sleep(size / switches.bytes_per_s)
        limits = (switches.stall_after_bytes, switches.close_after_bytes)
        stops = [limit - sent for limit in limits if limit is not None and limit > sent]
        chunk = part[sent : sent + min([size, *stops])]
        self.wfile.write(chunk)
        return len(chunk)

    def _fails_after(self, sent: int) -> bool:
        switches = self._registry.switches
        if (
            switches.close_after_bytes is not None
            and sent >= switches.close_after_bytes
            and self._takes_fault()
        ):
            self.close_connection = True
            _shut(self.connection)
            return True
        if (
            switches.stall_after_bytes is not None
            and sent >= switches.stall_after_bytes
            and self._takes_fault()
        ):
            self._be_silent()
            return True
        return False

    def _takes_fault(self) -> bool:
        switches = self._registry.switches
        if switches.faults_left is None:
            return True
        switches.faults_left -= 1
        return switches.faults_left >= 0

    def _be_silent(self) -> None:
        """Say nothing until the client goes away or the registry ends."""
        self.close_connection = True
        self.connection.settimeout(0.05)
        end = time.monotonic() + SILENCE_LIMIT_S
        while time.monotonic() < end and not self._registry.closing.is_set():
            try:
                if not self.connection.recv(1024):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _begin(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _note(self, sent: int, first: int | None, last: int | None) -> None:
        agent = self.headers.get("User-Agent", "")
        self._registry.served.append(Served(self.command, self.path, first, last, sent, agent))


def _kind_of(entry: Served) -> str:
    return _kind(entry.method, entry.path, entry.first is not None)


def _kind(method: str, path: str, has_range: bool) -> str:
    if "/manifests/" in path:
        return "manifest"
    return "range" if has_range else method


def _shut(open_socket: socket.socket) -> None:
    try:
        open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
