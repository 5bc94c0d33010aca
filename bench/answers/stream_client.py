"""A client that reads streams or moves bodies and notes when what came: `stream_client`, a job as JSON on stdin.

A process of its own, so that nobody else's work delays its reading. It reads without a look at what it reads; only
when all is there it takes the chunks apart and says which line came when.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READ_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 120.0
LAST_CHUNK: Final = b"0\r\n\r\n"
OK: Final = b"HTTP/1.1 200 "


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer. Instants in nanoseconds of the monotonic clock; `written_ns` where the lines name them.

    `first_ns`: its first byte was here.
    """

    sent_ns: int
    first_ns: int
    came_ns: list[int]
    written_ns: list[int]

    @property
    def first_byte_ms(self) -> float:
        """From the request to the first byte of the answer."""
        return (self.first_ns - self.sent_ns) / 1e6

    @property
    def first_line_ms(self) -> float:
        """From the request to the first line."""
        return (self.came_ns[0] - self.sent_ns) / 1e6

    @property
    def whole_s(self) -> float:
        """From the request to the last line."""
        return (self.came_ns[-1] - self.sent_ns) / 1e9

    def delays_ms(self) -> list[float]:
        """Of each line, from its writing to its coming."""
        pairs = zip(self.written_ns, self.came_ns, strict=True)
        return [(came_ns - written_ns) / 1e6 for written_ns, came_ns in pairs]


def read_streams(port: int, body: Mapping[str, object], *, streams: int) -> list[Stream]:
    """Ask `/api/generate` so many times at once; each answer whole.

    :raises subprocess.CalledProcessError: the client failed; its stderr says how
    """
    answers = _run({"do": "streams", "port": port, "body": dict(body), "streams": streams})
    return [Stream(**one) for one in answers]


def send_body(port: int, n_bytes: int) -> float:
    """Seconds in which a body of so many bytes went up and was answered."""
    return float(_run({"do": "up", "port": port, "n_bytes": n_bytes}))


def fetch_body(port: int, n_bytes: int) -> float:
    """Seconds in which a body of so many bytes came down."""
    return float(_run({"do": "down", "port": port, "n_bytes": n_bytes}))


def _run(job: Mapping[str, object]) -> Any:  # Any: JSON that `main` wrote
    command = [sys.executable, "-m", "bench.answers.stream_client"]
    ran = subprocess.run(command, input=json.dumps(job).encode(), stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


@dataclass(slots=True)
class _Reading:
    sent_ns: int
    pieces: list[tuple[int, bytes]] = field(default_factory=list)

    def is_over(self) -> bool:
        last = self.pieces[-1][1]
        if len(last) < len(LAST_CHUNK) and len(self.pieces) > 1:
            last = self.pieces[-2][1] + last
        return last.endswith(LAST_CHUNK)

    def stream(self) -> Stream:
        came_ns, written_ns = lines_in(self.pieces)
        return Stream(self.sent_ns, self.pieces[0][0], came_ns, written_ns)


def main(job: Mapping[str, Any]) -> object:  # Any: JSON that `_run` wrote
    """Do the job."""
    if job["do"] == "streams":
        return [
            asdict(one)
            for one in _read_streams(job["port"], json.dumps(job["body"]).encode(), job["streams"])
        ]
    move = _send if job["do"] == "up" else _fetch
    with socket.create_connection(("127.0.0.1", job["port"]), timeout=TIMEOUT_S) as connection:
        began_s = time.monotonic()
        move(connection, job["n_bytes"])
        return time.monotonic() - began_s


def _read_streams(port: int, body: bytes, streams: int) -> list[Stream]:
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    readings = []
    with selectors.DefaultSelector() as selector:
        for _ in range(streams):
            connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
            reading = _Reading(time.monotonic_ns())
            connection.sendall(head.encode() + body)
            selector.register(connection, selectors.EVENT_READ, reading)
            readings.append(reading)
        while selector.get_map():
            for key, _ in selector.select():
                _read_once(selector, key)
    return [reading.stream() for reading in readings]


def _read_once(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    connection, reading = key.fileobj, key.data
    assert isinstance(connection, socket.socket)
    data = connection.recv(READ_BYTES)
    reading.pieces.append((time.monotonic_ns(), data))
    if not data:
        raise RuntimeError("an answer broke off")
    if reading.is_over():
        selector.unregister(connection)
        connection.close()


def lines_in(pieces: Sequence[tuple[int, bytes]]) -> tuple[list[int], list[int]]:
    """When each line of a chunked answer was here whole, and what its `at_ns` says.

    :param pieces: what was read at which instant: `HTTP/1.1 200 OK…\\r\\n\\r\\n5f\\r\\n{…,"at_ns":17}\\n\\r\\n…`
    """
    whole = b"".join(data for _, data in pieces)
    ends = list(accumulate(len(data) for _, data in pieces))
    if not whole.startswith(OK):
        raise RuntimeError(f"answered {whole[:300]!r}")
    came_ns: list[int] = []
    written_ns: list[int] = []
    line_start = b""
    at = whole.index(b"\r\n\r\n") + 4
    while True:
        mark = whole.index(b"\r\n", at)
        size = int(whole[at:mark], 16)
        if not size:
            return came_ns, written_ns
        lines = (line_start + whole[mark + 2 : mark + 2 + size]).split(b"\n")
        end = mark + 2 - len(line_start)
        for line in lines[:-1]:
            end += len(line) + 1
            came_ns.append(pieces[bisect_left(ends, end)][0])
            _, has_stamp, stamp = line.rpartition(b'"at_ns":')
            if has_stamp:
                written_ns.append(int(stamp.rstrip(b"}")))
        line_start = lines[-1]
        at = mark + 2 + size + 2


def _send(connection: socket.socket, n_bytes: int) -> None:
    head = f"POST /api/blobs/sha256:{0:064x} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {n_bytes}\r\n\r\n"
    connection.sendall(head.encode())
    piece = bytes(PIECE_BYTES)
    for _ in range(n_bytes // PIECE_BYTES):
        connection.sendall(piece)
    answer = connection.recv(READ_BYTES)
    while b"}" not in answer:
        answer += connection.recv(READ_BYTES)
    if not answer.startswith(OK) or b'"bytes": %d}' % n_bytes not in answer:
        raise RuntimeError(f"answered {answer!r}")


def _fetch(connection: socket.socket, n_bytes: int) -> None:
    connection.sendall(f"GET /api/bytes?n={n_bytes} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(READ_BYTES)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(OK):
        raise RuntimeError(f"answered {answer!r}")
    left, buffer = n_bytes - len(body), bytearray(PIECE_BYTES)
    while left and (n_read := connection.recv_into(buffer)):
        left -= n_read
    if left:
        raise RuntimeError(f"{left} bytes are missing")


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
