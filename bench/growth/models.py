"""What a thousand installed models cost: lists, health, other answers, the start, and a daemon at rest.

One daemon for each number of models, each over a real Ollama of its own, all at once and asked in turn.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import WIDE_AT_THE_END, Figure, Goal, Outcome
from bench.growth.growth import MIB, add_growth, busy_s, flat, linear
from bench.restarts.real_engine import find_ollama
from bench.rounds import alternate
from bench.subject import ready_daemon
from tests.engine.daemon import DaemonFactory
from tests.engine.fake import FakeEngine
from tests.engine.store import blob_path, layers_of, manifest_path
from tests.engine.tiny_gguf import SMALLEST, write_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.subject import Subject

NOUN: Final = "models"
BUSY: Final = "processor time"
"""Of the daemon, for one. The goals are for this: on a machine that others use too a wall clock tells of them."""
TEMPLATE_NAME: Final = b"model-00000"
HEALTH_ANEW_S: Final = 0.26
"""After this `/health` judges anew; before it the kept body is sent."""
ANSWER_LIMIT_S: Final = 30.0
SETTLE_S: Final = 2.0
REST_ROOM: Final = 3.0
"""At rest so little is done that a look which falls into one span and not into the other counts for much."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `requests`: of cheap answers in one round."""

    models: tuple[int, ...]
    rounds: int
    starts: int
    requests: int
    rest_s: float


FULL: Final = Size((1, 10, 100, 1000), rounds=12, starts=8, requests=20, rest_s=20.0)
QUICK: Final = Size((10, 1000), rounds=4, starts=3, requests=20, rest_s=4.0)


def measure(*, is_quick: bool) -> Outcome:
    """All of it at 1, 10, 100 and 1,000 models; quick: 10 and 1,000."""
    outcome, size = Outcome(), QUICK if is_quick else FULL
    ollama = find_ollama()
    if ollama is None:
        outcome.remarks.append("NOT MEASURED: there is no Ollama here (`make ollama`).")
        return outcome
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as name, ExitStack() as at_end:
        folder = Path(name)
        stores = {n: write_store(folder / f"store{n}", n) for n in size.models}
        subjects = {
            n: at_end.enter_context(ready_daemon(engine_program=ollama, models=store))
            for n, store in stores.items()
        }
        boxes = {n: at_end.enter_context(closing(Box(subject))) for n, subject in subjects.items()}
        _rest(boxes, size, outcome)
        _lists(boxes, size, outcome)
        _health(boxes, size, outcome)
        _cheap("GET /api/info", boxes, size, outcome, lambda box: box.get("/api/info"), goal=flat())
        _cheap("GET /api/stats", boxes, size, outcome, lambda box: box.get("/api/stats"), goal=flat())
        resident = {n: [[box.subject.resident_bytes() / MIB]] for n, box in boxes.items()}
        add_growth(outcome, "resident after all that", resident, "MiB", NOUN, goal=flat())
        _starts(folder, ollama, stores, size, outcome)
    outcome.remarks.append(
        "each model has a blob of its own (110 kB). Cold: right after a cache clear, which forgets the list."
    )
    return outcome


def write_store(store: Path, n_models: int) -> Path:
    """A store of that many models, all of one shape, none with the blob of another."""
    template = write_gguf(
        store.with_suffix(".gguf"), replace(SMALLEST, name=TEMPLATE_NAME.decode())
    ).read_bytes()
    (store / "blobs").mkdir(parents=True)
    for number in range(n_models):
        name = f"model-{number:05}"
        layers = layers_of(template.replace(TEMPLATE_NAME, name.encode()))
        for digest, content in layers.blobs.items():
            blob_path(store, digest).write_bytes(content)
        manifest = manifest_path(store, name)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(layers.manifest)
    return store


class Box:
    """One daemon, asked on kept connections: its own API, and its engine's."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.pid = subject, subject.daemon.pid
        self._daemon = _connection(subject.daemon.port)
        self._engine = _connection(subject.daemon.engine_port)

    def get(self, path: str) -> bytes:
        """What the daemon answers."""
        return _ask(self._daemon, "GET", path)

    def post(self, path: str) -> bytes:
        """The same, with nothing in the body."""
        return _ask(self._daemon, "POST", path)

    def tags(self) -> bytes:
        """Ollama's own list."""
        return _ask(self._engine, "GET", "/api/tags")

    def close(self) -> None:
        """Hang up."""
        self._daemon.close()
        self._engine.close()


def _lists(boxes: dict[int, Box], size: Size, outcome: Outcome) -> None:
    """Cold in turn with Ollama's own list, then kept; the clear that forgets the list is timed too."""
    busy_ms: dict[int, list[list[float]]] = {n: [] for n in boxes}
    clear_ms: dict[int, list[list[float]]] = {n: [] for n in boxes}

    def cold(n: int) -> list[float]:
        box = boxes[n]
        before_s = busy_s(box.pid)
        clear_ms[n].append([_timed_ms(lambda: box.post("/api/cache/clear"))])
        took_ms = _timed_ms(lambda: box.get("/api/models"))
        busy_ms[n].append([(busy_s(box.pid) - before_s) * 1e3])
        return [took_ms]

    def tags(n: int) -> list[float]:
        return [_timed_ms(boxes[n].tags)]

    contenders: dict[str, Callable[[], Sequence[float]]] = {}
    for n in boxes:
        contenders[f"cold {n}"] = partial(cold, n)
        contenders[f"tags {n}"] = partial(tags, n)
    taken = alternate(contenders, rounds=size.rounds)
    colds = {n: taken[f"cold {n}"] for n in boxes}
    add_growth(outcome, "GET /api/models cold", colds, "ms", NOUN)
    largest = size.models[-1]
    outcome.add_rounds(
        f"the same, {largest:,} {NOUN}", colds[largest], "ms",
        beside=("Ollama's GET /api/tags", taken[f"tags {largest}"]), wide=WIDE_AT_THE_END,
    )  # fmt: skip
    goal = linear(size.models)
    colds_busy = _without_warm_up(busy_ms)
    add_growth(outcome, f"GET /api/models cold: {BUSY}", colds_busy, "ms", NOUN, goal=goal)
    add_growth(outcome, "cache clear, nothing loaded", _without_warm_up(clear_ms), "ms", NOUN)
    _cheap("GET /api/models kept", boxes, size, outcome, lambda box: box.get("/api/models"), goal=goal)
    for n in (size.models[0], largest):
        outcome.figures.append(
            Figure(f"GET /api/models: body, {n:,} {NOUN}", len(boxes[n].get("/api/models")) / 1024, "KiB")
        )


def _without_warm_up(rounds: dict[int, list[list[float]]]) -> dict[int, list[list[float]]]:
    return {n: each[1:] for n, each in rounds.items()}


def _health(boxes: dict[int, Box], size: Size, outcome: Outcome) -> None:
    """Judged anew each time, and how long its body gets."""
    took_ms: dict[int, list[list[float]]] = {n: [] for n in boxes}
    busy_ms: dict[int, list[list[float]]] = {n: [] for n in boxes}
    for _ in range(size.rounds):
        times: dict[int, list[float]] = {n: [] for n in boxes}
        before_s = {n: busy_s(box.pid) for n, box in boxes.items()}
        for _ in range(max(2, size.requests // 4)):
            time.sleep(HEALTH_ANEW_S)
            for n, box in boxes.items():
                times[n].append(_timed_ms(partial(box.get, "/health")))
        for n, box in boxes.items():
            took_ms[n].append(times[n])
            busy_ms[n].append([(busy_s(box.pid) - before_s[n]) * 1e3 / len(times[n])])
    goal = linear(size.models)
    add_growth(outcome, "GET /health judged anew", took_ms, "ms", NOUN)
    add_growth(outcome, f"GET /health judged anew: {BUSY}", busy_ms, "ms", NOUN, goal=goal)
    bodies = {n: [[len(box.get("/health")) / 1024]] for n, box in boxes.items()}
    add_growth(outcome, "GET /health: body", bodies, "KiB", NOUN, goal=goal)


def _cheap(
    name: str,
    boxes: dict[int, Box],
    size: Size,
    outcome: Outcome,
    ask: Callable[[Box], object],
    *,
    goal: Goal,
) -> None:
    """Many in a row on one connection."""
    busy_ms: dict[int, list[list[float]]] = {n: [] for n in boxes}

    def times(n: int) -> list[float]:
        before_s = busy_s(boxes[n].pid)
        took_ms = [_timed_ms(lambda: ask(boxes[n])) for _ in range(size.requests)]
        busy_ms[n].append([(busy_s(boxes[n].pid) - before_s) * 1e3 / size.requests])
        return took_ms

    taken = alternate({str(n): partial(times, n) for n in boxes}, rounds=size.rounds)
    for n in (size.models[0], size.models[-1]):
        outcome.add_rounds(f"{name}, {n:,} {NOUN}", taken[str(n)], "ms", wide=WIDE_AT_THE_END)
    add_growth(outcome, f"{name}: {BUSY}", _without_warm_up(busy_ms), "ms", NOUN, goal=goal)


def _starts(folder: Path, ollama: Path, stores: dict[int, Path], size: Size, outcome: Outcome) -> None:
    """Launch to the first /livez."""
    factory = DaemonFactory(folder / "starts", FakeEngine(folder))
    daemons = {n: factory.prepare(engine=ollama, models=store) for n, store in stores.items()}

    def start(n: int) -> list[float]:
        began_s = time.monotonic()
        daemons[n].start().wait_live()
        took_ms = (time.monotonic() - began_s) * 1e3
        daemons[n].stop()
        assert not daemons[n].survivors()
        return [took_ms]

    taken = alternate({str(n): partial(start, n) for n in daemons}, rounds=size.starts)
    add_growth(outcome, "launch to /livez", {n: taken[str(n)] for n in daemons}, "ms", NOUN, goal=flat())


def _rest(boxes: dict[int, Box], size: Size, outcome: Outcome) -> None:
    """Nobody asks anything."""
    for box in boxes.values():
        box.get("/api/models")
    time.sleep(SETTLE_S)
    before_s = {n: busy_s(box.pid) for n, box in boxes.items()}
    time.sleep(size.rest_s)
    percent = {n: [[(busy_s(box.pid) - before_s[n]) / size.rest_s * 100]] for n, box in boxes.items()}
    add_growth(
        outcome, f"at rest, {size.rest_s:g} s", percent, "% of a core", NOUN, goal=Goal("<=", REST_ROOM)
    )


def _timed_ms(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)


def _ask(connection: http.client.HTTPConnection, method: str, path: str) -> bytes:
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {body[:500].decode(errors='replace')}")
    return body
