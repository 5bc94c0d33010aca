"""What the way through the daemon costs: port 11436 beside the engine's own, in turn.

Below the daemon stands first an engine that only streams (`stream_engine.py`), so that what is seen is the way and
not the engine; then the real Ollama. The client is a process of its own (`stream_client.py`).
"""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.answers.cores import one_core_apart
from bench.answers.ollama import MODEL, make_store, ollama_or_remark
from bench.answers.stream_client import fetch_body, read_streams, send_body
from bench.answers.stream_engine import make_stream_engine
from bench.answers.wrk import find_wrk
from bench.figures import WIDE_AT_THE_END, Figure, Goal, Outcome, p50, p99
from bench.rounds import alternate
from bench.subject import MemoryWatch, ready_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.answers.stream_client import Stream
    from bench.subject import Subject

MIB: Final = 1 << 20
DEAF_S: Final = 3.0
ANSWER_TOKENS: Final = 400
ANSWER_ROUNDS: Final = 10
SMALL: Final = "/api/version"
SMALL_CONNECTIONS: Final = 16
SMALL_ROUNDS: Final = 4
SMALL_ROUND_S: Final = 1
STRAIGHT: Final = "straight"
THROUGH: Final = "through"

FLAT: Final = Goal("<=", 16)
NONE: Final = Goal("==", 0)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    rounds: int
    paced_s: float  # of each round
    fast_lines: int
    body_bytes: int


FULL: Final = Size(rounds=6, paced_s=1.0, fast_lines=200_000, body_bytes=1024 * MIB)
QUICK: Final = Size(rounds=4, paced_s=0.5, fast_lines=100_000, body_bytes=64 * MIB)


@dataclass(frozen=True, slots=True)
class Pace:
    """So many streams at once, each of so many lines a second; 0: as fast as the engine writes."""

    streams: int
    per_s: int

    @property
    def name(self) -> str:
        """`8 streams of 200 lines/s`."""
        streams = f"{self.streams} stream{'s' if self.streams > 1 else ''}"
        return f"{streams} of {self.per_s} lines/s" if self.per_s else f"{streams} at full speed"


PACES: Final = (Pace(1, 500), Pace(8, 200), Pace(32, 50), Pace(32, 200))
FAST: Final = (Pace(1, 0), Pace(8, 0), Pace(32, 0))


def measure(*, is_quick: bool) -> Outcome:
    """Paced streams, fast streams, large bodies, a client that does not read; and (not quick) the real Ollama."""
    outcome = Outcome()
    size = QUICK if is_quick else FULL
    with (
        one_core_apart(outcome) as core,
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        ready_daemon(core=core, engine_program=make_stream_engine(Path(folder))) as subject,
    ):
        before_bytes = subject.resident_bytes()
        watch = MemoryWatch(subject)
        with watch.running():
            for pace in PACES[:1] if is_quick else PACES:
                _measure_paced(pace, subject, size, outcome)
            for pace in FAST[:1] if is_quick else FAST:
                _measure_fast(pace, subject, size, outcome)
            _measure_bodies(subject, size, outcome)
            if not is_quick:
                _leave_unread(subject)
        outcome.samples["resident bytes"] = watch.samples
        outcome.figures += (
            Figure("resident before", before_bytes / MIB, "MiB"),
            Figure("resident at most, above before", (max(watch.samples) - before_bytes) / MIB, "MiB", FLAT),
        )
    if not is_quick:
        _measure_ollama(outcome)
    outcome.remarks.append(
        "lines of 118 bytes, each a chunk and a write of its own; a delay is from before the engine's write until "
        "the client has read the line; `straight` is the engine's own port: what engine and client can do alone"
    )
    return outcome


def _measure_paced(pace: Pace, subject: Subject, size: Size, outcome: Outcome) -> None:
    lines = int(pace.per_s * size.paced_s)
    firsts: dict[str, list[list[float]]] = {STRAIGHT: [], THROUGH: []}

    def one_round(name: str, port: int) -> list[float]:
        streams = _read(port, pace, lines)
        firsts[name].append([stream.first_byte_ms for stream in streams])
        return list(chain.from_iterable(stream.delays_ms() for stream in streams))

    taken = alternate(_contenders(subject, one_round), rounds=size.rounds)
    ours, theirs = taken[THROUGH], taken[STRAIGHT]
    beside = (STRAIGHT, theirs)
    outcome.add_rounds(f"{pace.name}: delay of a line, p50", ours, "ms", beside=beside)
    outcome.add_rounds(
        f"{pace.name}: delay of a line, p99", ours, "ms", of=p99, beside=beside, wide=WIDE_AT_THE_END
    )
    for of, name in ((p50, "p50"), (p99, "p99")):
        added = [[of(mine) - of(other)] for mine, other in zip(ours, theirs, strict=True)]
        outcome.add_rounds(f"{pace.name}: added to {name}", added, "ms", wide=WIDE_AT_THE_END)
    outcome.add_rounds(
        f"{pace.name}: first byte",
        firsts[THROUGH][1:],  # the first is the warm-up's
        "ms",
        beside=(STRAIGHT, firsts[STRAIGHT][1:]),
        wide=WIDE_AT_THE_END,
    )


def _measure_fast(pace: Pace, subject: Subject, size: Size, outcome: Outcome) -> None:
    lines = size.fast_lines // pace.streams * pace.streams

    def one_round(_name: str, port: int) -> list[float]:
        streams = _read(port, pace, lines // pace.streams)
        began_ns = min(stream.sent_ns for stream in streams)
        return [lines / (max(stream.came_ns[-1] for stream in streams) - began_ns) * 1e9]

    taken = alternate(_contenders(subject, one_round), rounds=size.rounds)
    outcome.add_rounds(
        f"{pace.name}: throughput", taken[THROUGH], "lines/s", beside=(STRAIGHT, taken[STRAIGHT])
    )


def _measure_bodies(subject: Subject, size: Size, outcome: Outcome) -> None:
    n_bytes = size.body_bytes
    for name, move in (("up", send_body), ("down", fetch_body)):
        taken = alternate(_contenders(subject, _mover(move, n_bytes)), rounds=size.rounds)
        outcome.add_rounds(
            f"body of {n_bytes // MIB} MiB {name}", taken[THROUGH], "MB/s", beside=(STRAIGHT, taken[STRAIGHT])
        )


def _mover(move: Callable[[int, int], float], n_bytes: int) -> Callable[[str, int], list[float]]:
    return lambda _name, port: [n_bytes / move(port, n_bytes) / 1e6]


def _leave_unread(subject: Subject) -> None:
    """A client that asks for a long stream and does not read for a while: what it is owed must not pile up here."""
    body = b'{"model":"tiny","lines":2000000,"per_s":0}'
    with closing(socket.create_connection(("127.0.0.1", subject.daemon.port))) as client:
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        time.sleep(DEAF_S)


def _read(port: int, pace: Pace, lines: int) -> list[Stream]:
    body = {"model": MODEL, "lines": lines, "per_s": pace.per_s}
    streams = read_streams(port, body, streams=pace.streams)
    came = [len(stream.written_ns) for stream in streams]
    if came != [lines] * pace.streams:
        raise RuntimeError(f"{pace.name}: lines that came are {came}, not {lines} each")
    return streams


def _measure_ollama(outcome: Outcome) -> None:
    """A streamed answer of the real engine; nothing is pinned, for its runner uses all cores."""
    ollama = ollama_or_remark(outcome)
    if ollama is None:
        return
    body = {
        "model": MODEL,
        "prompt": "a",
        "options": {"num_predict": ANSWER_TOKENS, "seed": 7, "temperature": 0.5},
    }
    seen: dict[str, list[Stream]] = {STRAIGHT: [], THROUGH: []}

    def one_round(name: str, port: int) -> list[float]:
        (stream,) = read_streams(port, body, streams=1)
        seen[name].append(stream)
        return [stream.whole_s]

    with (
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        ready_daemon(engine_program=ollama, models=make_store(Path(folder))) as subject,
    ):
        alternate(_contenders(subject, one_round), rounds=ANSWER_ROUNDS)
        _measure_small(subject, outcome)
    looks: tuple[tuple[str, str, Callable[[Stream], float], float], ...] = (
        ("tokens", "/s", lambda one: (len(one.came_ns) - 1) / (one.came_ns[-1] - one.came_ns[0]) * 1e9, 0.3),
        ("first token", "ms", lambda one: one.first_line_ms, WIDE_AT_THE_END),
        ("whole", "s", lambda one: one.whole_s, 0.3),
    )
    for what, unit, look, wide in looks:
        ours, theirs = ([[look(one)] for one in seen[name][1:]] for name in (THROUGH, STRAIGHT))
        name = f"Ollama, an answer of {ANSWER_TOKENS} tokens: {what}"
        outcome.add_rounds(name, ours, unit, beside=(STRAIGHT, theirs), wide=wide)


def _measure_small(subject: Subject, outcome: Outcome) -> None:
    """Requests whose answer costs the engine next to nothing, so that all that is seen is the way."""
    wrk = find_wrk()
    if isinstance(wrk, str):
        outcome.remarks.append(f"NOT MEASURED, {SMALL}: {wrk}")
        return

    def one_round(_name: str, port: int) -> list[float]:
        seen = wrk.load(port, SMALL, connections=SMALL_CONNECTIONS, seconds=SMALL_ROUND_S)
        return [seen.requests_per_s]

    taken = alternate(_contenders(subject, one_round), rounds=SMALL_ROUNDS)
    outcome.add_rounds(
        f"Ollama, {SMALL}, {SMALL_CONNECTIONS} connections: requests",
        taken[THROUGH],
        "/s",
        beside=(STRAIGHT, taken[STRAIGHT]),
    )


def _contenders(
    subject: Subject, one_round: Callable[[str, int], Sequence[float]]
) -> dict[str, Callable[[], Sequence[float]]]:
    return {
        THROUGH: lambda: one_round(THROUGH, subject.daemon.port),
        STRAIGHT: lambda: one_round(STRAIGHT, subject.daemon.engine_port),
    }
