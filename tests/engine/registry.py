"""A model registry on a loopback port, in threads of the test process, with a switch for each way to fail.

Pull from it by `registry.name("tiny")` with `"insecure": true`. `switches` hold for all requests, `faults` are ordered
for single ones, and the whole registry can go down and come back.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine.processes import pick_free_port
from tests.engine.registry_faults import FaultQueue
from tests.engine.registry_wire import Served, Server, shut
from tests.engine.store import Layers, digest_of, layers_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LICENSE_KIND: Final = "application/vnd.ollama.image.license"


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


@dataclass(slots=True)
class Registry:
    """The running registry."""

    server: Server
    switches: Switches = field(default_factory=Switches)
    served: list[Served] = field(default_factory=list)
    models: dict[str, Layers] = field(default_factory=dict)  # by `library/tiny:latest`
    faults: FaultQueue = field(default_factory=FaultQueue)
    closing: threading.Event = field(default_factory=threading.Event)
    sockets: set[socket.socket] = field(default_factory=set)
    noting: threading.Lock = field(default_factory=threading.Lock)

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
        return self._put(model, layers_of(content))

    def put_layers(self, model: str, contents: Sequence[bytes]) -> str:
        """Offer a model of several layers: the first is the model itself, the others are licences."""
        alone = layers_of(contents[0])
        blobs = {digest_of(content): content for content in contents}
        manifest = json.loads(alone.manifest)
        manifest["layers"] += [
            {"mediaType": LICENSE_KIND, "digest": digest, "size": len(blobs[digest])}
            for digest in list(blobs)[1:]
        ]
        return self._put(model, Layers(json.dumps(manifest).encode(), {**blobs, **alone.blobs}))

    def withdraw_blobs(self, model: str) -> None:
        """Forget the blobs of a model, and keep its manifest: memory for long tests."""
        key = self.name(model).partition("/")[2]
        self.models[key] = Layers(self.models[key].manifest, {})

    def note(self, asked: Served) -> int:
        """Take down a request as it begins; its place in `served`."""
        with self.noting:
            self.served.append(asked)
            return len(self.served) - 1

    def ranges(self) -> list[Served]:
        """The parts that were asked for, each when it has ended."""
        return [entry for entry in list(self.served) if entry.first is not None and entry.ended is not None]

    def requests(self, kind: str) -> int:
        """Number of Ollama's requests so far: `manifest`, `HEAD`, `GET` (without range), `range`."""
        return sum(1 for entry in list(self.served) if entry.is_of_ollama and entry.kind == kind)

    def looks(self) -> int:
        """Number of manifests that the daemon itself asked for."""
        return sum(1 for entry in list(self.served) if not entry.is_of_ollama)

    def go_down(self) -> None:
        """Close the port and every connection; whoever comes is refused."""
        self.closing.set()
        self.server.shutdown()
        for open_socket in list(self.sockets):
            shut(open_socket)
        self.server.server_close()  # joins the threads of all requests

    def come_back(self) -> None:
        """Answer again, on the same port; start it on a port that the kernel gives to nobody else."""
        self.closing.clear()
        self._listen(Server(self.server.server_address[1]))

    def stop(self) -> None:
        """End it; nothing when it is down."""
        if not self.closing.is_set():
            self.go_down()

    def _put(self, model: str, layers: Layers) -> str:
        name = self.name(model)
        self.models[name.partition("/")[2]] = layers
        return name

    def _listen(self, server: Server) -> None:
        self.server = server
        server.registry = self
        threading.Thread(target=server.serve_forever, args=(0.02,), name="registry", daemon=True).start()


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry of this test's own, empty."""
    running = start_registry(pick_free_port())
    yield running
    running.stop()


def start_registry(port: int = 0) -> Registry:
    """Start a registry on a port of 127.0.0.1."""
    server = Server(port)
    started = Registry(server)
    started._listen(server)
    return started
