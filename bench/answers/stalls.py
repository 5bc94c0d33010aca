"""The longest pause of the daemon's event loop, as seen from outside, while things happen.

A process of its own asks /livez every 2 ms on a kept connection and counts each answer from when it was due; nothing
is looked at for that answer, so that what makes it late is that the loop did not turn, or had others to answer first.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.answers import disturbances as while_
from bench.answers.bare_handler import PATH as BARE_PATH
from bench.answers.bare_handler import bare_handler
from bench.answers.cores import one_core_apart
from bench.answers.ollama import make_store, ollama_or_remark
from bench.answers.stream_engine import make_stream_engine
from bench.answers.wrk import Wrk, find_wrk
from bench.figures import WIDE_AT_THE_END, Figure, Goal, Outcome, p99
from bench.rounds import tell_progress
from bench.subject import health_probe, ready_daemon
from tests.engine.registry import start_registry
from tests.engine.store import install_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Rounds
    from tests.engine.registry import Registry

PATH: Final = "/livez"
PERIOD_S: Final = 0.002
FULL_SPAN_S: Final = 8.0
QUICK_SPAN_S: Final = 1.0
LEAD_S: Final = 0.1
CONNECTIONS: Final = 64
KILLS: Final = 50
QUICK_KILLS: Final = 5
MODELS: Final = 1000
LISTINGS: Final = 20
CLEARS: Final = 20
BIG_BYTES: Final = 300 << 20
BARE_BYTES: Final = 18
BARE: Final = "bare aiohttp"
IDLE: Final = "idle"
LOADED: Final = f"/health, {CONNECTIONS} connections"
NO_LINE: Final = b"\0"

IN_10_MS: Final = Goal("<=", 10)
"""The bound of /livez."""


def measure(*, is_quick: bool) -> Outcome:
    """Each disturbance for some seconds; quick: those of the fake engine, for one."""
    outcome = Outcome()
    span_s = QUICK_SPAN_S if is_quick else FULL_SPAN_S
    found = find_wrk()
    wrk = found if isinstance(found, Wrk) else None
    if wrk is None:
        outcome.remarks.append(f"NOT MEASURED under load: {found}")
    with one_core_apart(outcome) as core:
        bare = _measure_bare(core, wrk, span_s, outcome)
        _measure_fake(core, wrk, span_s, bare, outcome, kills=QUICK_KILLS if is_quick else KILLS)
        if not is_quick:
            _measure_streams(core, span_s, outcome)
            _measure_many_models(core, outcome)
            _measure_ollama(core, outcome)
    outcome.remarks.append(
        f"{PATH} every {PERIOD_S * 1000:g} ms from a process with real-time priority (where it may), counted from when "
        "due; its own late waking is taken off. The bare aiohttp handler shows what the machine itself does"
    )
    return outcome


def _measure_bare(core: int | None, wrk: Wrk | None, span_s: float, outcome: Outcome) -> dict[str, Rounds]:
    """The bare handler, by what it had to do."""
    with bare_handler(BARE_BYTES, core) as port:
        watch = partial(_watch, port=port, outcome=outcome, path=BARE_PATH)
        seen = {IDLE: watch(f"{BARE}, {IDLE}", act=partial(time.sleep, span_s))}
        if wrk is not None:
            load = partial(while_.load, wrk, port, span_s, connections=CONNECTIONS)
            seen[LOADED] = watch(f"{BARE}, {LOADED}", act=load)
    return seen


def _measure_fake(
    core: int | None, wrk: Wrk | None, span_s: float, bare: dict[str, Rounds], outcome: Outcome, *, kills: int
) -> None:
    env = {"ARASUL_HEAL": "observe", "ARASUL_STABLE_SECONDS": "0"}
    with ready_daemon(is_read=True, kept=NO_LINE, core=core, env=env) as subject:
        watch = partial(_watch, port=subject.daemon.port, outcome=outcome)
        watch(IDLE, act=partial(time.sleep, span_s), beside=(BARE, bare[IDLE]))
        if wrk is not None:
            load = partial(while_.load, wrk, subject.daemon.port, span_s, connections=CONNECTIONS)
            watch(LOADED, act=load, beside=(BARE, bare[LOADED]))
        watch(f"log flood of {while_.FLOOD_MB_PER_S} MB/s", act=partial(while_.flood, subject, span_s))
        watch("engine frozen", act=partial(while_.freeze, subject, span_s))
        watch(f"{kills} kills of the engine", act=partial(while_.kill_often, subject, kills))


def _measure_streams(core: int | None, span_s: float, outcome: Outcome) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        ready_daemon(core=core, engine_program=make_stream_engine(Path(folder))) as subject,
    ):
        watch = partial(_watch, port=subject.daemon.port, outcome=outcome)
        paced = f"{while_.STREAMS} streams of {while_.LINES_PER_S} lines/s"
        watch(paced, act=partial(while_.stream, subject, span_s))
        watch(f"{while_.STREAMS} streams at full speed", act=partial(while_.stream_fast, subject))


def _measure_many_models(core: int | None, outcome: Outcome) -> None:
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        weights, store = Path(folder, "weights"), Path(folder, "store")
        weights.write_bytes(b"weights")
        names = [f"model-{number}" for number in range(MODELS)]
        for name in names:
            install_model(store, name, weights)
        env = {"FAKE_OLLAMA_MODELS": ",".join(f"{name}:latest=7" for name in names)}
        with ready_daemon(core=core, models=store, env=env) as subject:
            name = f"{MODELS} models listed anew {LISTINGS} times"
            _watch(name, subject.daemon.port, partial(while_.list_anew, subject, LISTINGS), outcome)


def _measure_ollama(core: int | None, outcome: Outcome) -> None:
    ollama = ollama_or_remark(outcome)
    if ollama is None:
        return
    with (
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        ready_daemon(core=core, engine_program=ollama, models=make_store(Path(folder))) as subject,
        _registry_with_big() as registry,
    ):
        watch = partial(_watch, port=subject.daemon.port, outcome=outcome)
        size = f"{BIG_BYTES >> 20} MiB"
        watch(f"Ollama: {CLEARS} cache clears", act=partial(while_.clear_often, subject, CLEARS))
        watch(f"Ollama: pull of {size}", act=partial(while_.pull, subject, registry))
        watch(f"Ollama: verify of {size}", act=partial(while_.verify, subject, registry))


@contextmanager
def _registry_with_big() -> Iterator[Registry]:
    """A registry in this process that offers one large model."""
    registry = start_registry()
    try:
        registry.put_bytes(while_.BIG, bytes(BIG_BYTES))
        yield registry
    finally:
        registry.stop()


def _watch(
    name: str,
    port: int,
    act: Callable[[], None],
    outcome: Outcome,
    *,
    path: str = PATH,
    beside: tuple[str, Rounds] | None = None,
) -> Rounds:
    """Add how late the answers were while that went on; the latenesses, in four parts of its time."""
    tell_progress(name)
    with health_probe(port, path=path, period_s=PERIOD_S) as seen:
        time.sleep(LEAD_S)
        act()
    late_ms = [latency_ns / 1e6 for _, latency_ns, _ in seen]
    parts = in_parts(late_ms)
    goal = IN_10_MS if path == PATH else None
    outcome.add_rounds(f"{name}: p99", parts, "ms", of=p99, goal=goal, beside=beside, wide=WIDE_AT_THE_END)
    outcome.figures.append(Figure(f"{name}: longest", max(late_ms), "ms", n=len(late_ms)))
    outcome.samples[f"{name}: the probe's own lateness ms"] = [own_ns / 1e6 for *_, own_ns in seen]
    return parts


def in_parts(samples: Sequence[float], n_parts: int = 4) -> list[Sequence[float]]:
    """The samples one after the other in parts of the same size; the last takes what is over."""
    size = len(samples) // n_parts
    ends = [*(size * number for number in range(1, n_parts)), len(samples)]
    return [samples[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
