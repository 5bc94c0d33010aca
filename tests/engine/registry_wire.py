"""What the fixture registry says on the wire: the requests of Ollama's pull, answered well or badly.

Manifest, HEAD of each blob, GET without a range (whose `Location` is needed, its body dropped), then GETs with ranges
(facts/ollama.md §9).
"""

from __future__ import annotations

import re
import socket
import struct
import time
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

from tests.engine.store import MANIFEST_KIND

if TYPE_CHECKING:
    from tests.engine.registry import Registry
    from tests.engine.registry_faults import Fault

CHUNK_BYTES: Final = 16_384
SEND_BUFFER_BYTES: Final = 65_536  # so that what was sent is nearly what was received
SILENCE_LIMIT_S: Final = 300.0
PATH: Final = re.compile(r"/v2/(?P<name>[^/]+/[^/]+)/(?P<kind>manifests|blobs)/(?P<what>[^/]+)")
RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Served:
    """One request, and what went out for it.

    `agent`: Ollama calls itself `ollama/0.34.4 (amd64 linux) Go/go1.26.x`, the daemon `arasul-supervisor`.
    `status`: 0 where none was sent. `at_mono`: monotonic seconds of its begin and its end.
    `ended`: None while it is under way, then `whole`, `dropped` and `reset` by a fault, `stalled` until the client
    went, `closed` with the registry, or `left` by the client.
    """

    method: str
    path: str
    first: int | None  # of a range
    last: int | None
    sent_bytes: int
    agent: str = ""
    status: int = 0
    ended: str | None = None
    at_mono: tuple[float, float] = (0.0, 0.0)

    @property
    def is_of_ollama(self) -> bool:
        """True unless the daemon itself asked."""
        return not self.agent.startswith("arasul-supervisor")

    @property
    def kind(self) -> str:
        """`manifest`, `HEAD`, `GET` (the one without range) or `range`."""
        if "/manifests/" in self.path:
            return "manifest"
        return "range" if self.first is not None else self.method

    @property
    def digest(self) -> str | None:
        """The blob that was asked for; None for a manifest."""
        return self.path.rpartition("/")[2] if "/blobs/" in self.path else None


class Server(ThreadingHTTPServer):
    """The port, bound at once."""

    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    registry: Registry

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients drop connections all the time."""

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close; one that is to be reset without the FIN that is sent otherwise."""
        if isinstance(request, socket.socket) and _has_no_linger(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self._registry = self.server.registry
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._registry.sockets.add(self.connection)
        if self._registry.closing.is_set():
            shut(self.connection)  # it came while the others were closed

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
        span = RANGE.fullmatch(self.headers.get("Range", ""))
        self._span = (int(span[1]), int(span[2])) if span else None
        self._status, self._sent_bytes, self._ended = 0, 0, "left"
        first, last = self._span or (None, None)
        began_mono = time.monotonic()
        agent = self.headers.get("User-Agent", "")
        asked = Served(self.command, self.path, first, last, 0, agent, at_mono=(began_mono, began_mono))
        place = self._registry.note(asked)
        try:
            self._meet_fault_or_send(asked)
        except OSError:
            self._ended = "closed" if self._registry.closing.is_set() else "left"
            self.close_connection = True
        finally:
            self._registry.served[place] = replace(
                asked,
                sent_bytes=self._sent_bytes,
                status=self._status,
                ended=self._ended,
                at_mono=(began_mono, time.monotonic()),
            )

    def _meet_fault_or_send(self, asked: Served) -> None:
        kind = asked.kind
        fault = self._registry.faults.take(kind, is_of_daemon=not asked.is_of_ollama)
        if kind in self._registry.switches.silent_on and self._takes_turn():
            self._be_silent()
        elif fault is None or fault.how == "slow" or (kind == "range" and fault.how != "refuse"):
            self._send(kind, fault)
        elif fault.how == "refuse":
            self._send_status(fault.status, fault.retry_after)
        else:
            self._break(fault.how)

    def _send(self, kind: str, fault: Fault | None) -> None:
        found, switches = PATH.fullmatch(self.path), self._registry.switches
        if found is None:
            self._send_status(404)
            return
        if kind == "manifest":
            self._send_manifest(f"{found['name']}:{found['what']}")
            return
        blob = self._blob(found["what"])
        if blob is None or switches.blob_status != 200:
            self._send_status(404 if blob is None else switches.blob_status)
        elif self._span is None:
            self._send_whole(blob)
        else:
            self._send_part(blob, *self._span, fault)

    def _blob(self, digest: str) -> bytes | None:
        for layers in list(self._registry.models.values()):
            if digest in layers.blobs:
                return layers.blobs[digest]
        return None

    def _send_manifest(self, name: str) -> None:
        status, layers = self._registry.switches.manifest_status, self._registry.models.get(name)
        if status != 200 or layers is None:
            self._send_status(404 if status == 200 else status)
            return
        self._begin(200, len(layers.manifest), {"Content-Type": MANIFEST_KIND})
        self._write(layers.manifest)
        self._ended = "whole"

    def _send_status(self, status: int, retry_after: str | None = None) -> None:
        body = b"boom"
        wait = retry_after or self._registry.switches.retry_after
        self._begin(status, len(body), {"Retry-After": wait} if wait else {})
        if self.command != "HEAD":
            self._write(body)
        self._ended = "whole"

    def _send_whole(self, blob: bytes) -> None:
        location = {"Location": self.path} if self._registry.switches.sends_location else {}
        self._begin(200, len(blob), location)
        self._ended = "whole"
        if self.command == "GET":
            # the client takes the address and drops the body: nothing is lost by not sending all of it
            self.wfile.write(blob[:CHUNK_BYTES])
            if len(blob) > CHUNK_BYTES:
                self.close_connection = True

    def _send_part(self, blob: bytes, first: int, last: int, fault: Fault | None) -> None:
        part = self._with_flip(memoryview(blob)[first : last + 1], first)
        if self._registry.switches.stalls_before_first_byte and self._takes_turn():
            self._be_silent()
            return
        self._begin(206, len(part), {"Content-Range": f"bytes {first}-{last}/{len(blob)}"})
        while self._sent_bytes < len(part):
            failure = self._failure(fault)
            if failure is not None:
                self._break(failure)
                return
            self._send_chunk(part, fault)
        self._ended = "whole"

    def _with_flip(self, part: memoryview, first: int) -> memoryview:
        flip = self._registry.switches.flip_byte_at
        if flip is None or not first <= flip < first + len(part):
            return part
        place = flip - first
        return memoryview(b"".join((part[:place], bytes([part[place] ^ 0xFF]), part[place + 1 :])))

    def _send_chunk(self, part: memoryview, fault: Fault | None) -> None:
        switches, sent = self._registry.switches, self._sent_bytes
        size, bytes_per_s = CHUNK_BYTES, switches.bytes_per_s
        if fault is not None and fault.how == "slow":
            bytes_per_s = fault.bytes_per_s
        if bytes_per_s:
            size = max(1, min(CHUNK_BYTES, int(bytes_per_s / 20)))
            time.sleep(size / bytes_per_s)
        limits = [switches.stall_after_bytes, switches.close_after_bytes]
        limits += [fault.after_bytes] if fault is not None and fault.how != "slow" else []
        stops = [limit - sent for limit in limits if limit is not None and limit > sent]
        self._write(part[sent : sent + min([size, *stops])])

    def _failure(self, fault: Fault | None) -> str | None:
        """How this range fails now that so much of it was sent."""
        switches, sent = self._registry.switches, self._sent_bytes
        if fault is not None and fault.how != "slow" and sent >= fault.after_bytes:
            return fault.how
        if sent and _is_reached(switches.close_after_bytes, sent) and self._takes_turn():
            return "drop"
        if sent and _is_reached(switches.stall_after_bytes, sent) and self._takes_turn():
            return "stall"
        return None

    def _break(self, how: str) -> None:
        self.close_connection = True
        if how == "stall":
            self._be_silent()
            return
        self._ended = "reset" if how == "reset" else "dropped"
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            shut(self.connection)

    def _takes_turn(self) -> bool:
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
        self._ended = "stalled"
        while time.monotonic() < end and not self._registry.closing.is_set():
            try:
                if not self.connection.recv(1024):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _begin(self, status: int, size: int, headers: dict[str, str]) -> None:
        self._status = status
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, content: bytes | memoryview) -> None:
        self.wfile.write(content)
        self._sent_bytes += len(content)


def shut(open_socket: socket.socket) -> None:
    """End both directions; nothing when the other side was quicker."""
    try:
        open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _is_reached(limit: int | None, sent: int) -> bool:
    return limit is not None and sent >= limit


def _has_no_linger(open_socket: socket.socket) -> bool:
    linger = struct.unpack("ii", open_socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return linger == (1, 0)
