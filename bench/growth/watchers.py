"""What a hundred watchers cost: clients that follow one pull, that poll health, that follow the log; and deaf ones.

The watchers are one process (`watcher_program.py`), beside the daemon's core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.answers.cores import one_core_apart
from bench.figures import Figure, Goal, Outcome, p99
from bench.growth.growth import MIB, add_growth, busy_s, flat, linear
from bench.rounds import alternate
from bench.subject import ready_daemon
from tests.engine.processes import pick_free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.subject import Subject

NOUN: Final = "watchers"
KINDS: Final = {"pull": "follow one pull", "health": "poll /health", "logs": "follow /api/logs"}
PULL_LINE_S: Final = 0.0625
"""Ollama tells 16 lines a second (facts/ollama.md §3.7)."""
DEAF_LINE_S: Final = 0.002
STAMP_TOTAL: Final = 10**15
LOG_LINES_A_S: Final = 100
LOG_LINE: Final = 'time=2026-11-23T07:32:48.871Z level=INFO source=server.go:1 msg="line {n} of a busy day"\n'
MOST_DEAF_MIB: Final = Goal("<=", 1)
LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How many watch, how often, and how long each time; `deaf_s` is 0 where no deaf ones do."""

    watchers: tuple[int, ...]
    rounds: int
    span_s: float
    deaf_s: float


FULL: Final = Size((1, 10, 100), rounds=4, span_s=5.0, deaf_s=60.0)
QUICK: Final = Size((1, 100), rounds=1, span_s=1.5, deaf_s=0.0)


@dataclass(frozen=True, slots=True)
class Watched:
    """One span: processor time of the daemon, its memory at the end, and what the watchers saw."""

    busy_s: float
    span_s: float
    resident_mib: float
    n: int
    late_ms: Sequence[float]
    took_s: float

    @property
    def busy_percent(self) -> float:
        """Of a core."""
        return self.busy_s / self.span_s * 100


def measure(*, is_quick: bool) -> Outcome:
    """1, 10 and 100 watchers of each kind; quick: 1 and 100."""
    outcome, size = Outcome(), QUICK if is_quick else FULL
    with one_core_apart(outcome) as core, ready_daemon(core=core) as subject:
        for kind, name in KINDS.items():
            seen: dict[int, list[Watched]] = {n: [] for n in size.watchers}
            _prepare(subject, kind, size)
            if kind == "logs":
                alone = _rest(subject, size)
                outcome.figures.append(Figure("a log that nobody follows", alone, "% of a core"))
            alternate(
                {str(n): partial(_watch_once, subject, kind, n, size, seen[n]) for n in seen},
                rounds=size.rounds, warm_up=0,
            )  # fmt: skip
            _add(outcome, kind, name, seen, size)
        if size.deaf_s:
            _deaf(subject, size, outcome)
    outcome.remarks.append(
        f"A pull of {1 / PULL_LINE_S:g} lines a second; polls once a second, spread over it; a log of {LOG_LINES_A_S} "
        "lines a second, which each follower gets whole. Lateness: of a line since the engine wrote it, of an answer "
        "since it was due; the watchers' own is in it."
    )
    return outcome


def _prepare(subject: Subject, kind: str, size: Size) -> None:
    """Have the engine do what is watched."""
    if kind == "pull":
        n_lines = max(1, round(size.span_s / PULL_LINE_S))
        subject.engine.control(f"pull,lines={n_lines},line_s={PULL_LINE_S},total={STAMP_TOTAL},stamped=1")
    elif kind == "logs":
        sow = subject.engine.folder / "sow"
        sow.write_text(LOG_LINE, encoding="utf-8")
        subject.engine.control(f"replay,sow={sow},sow_s={1 / LOG_LINES_A_S},sow_count=1000000")
        time.sleep(1.0)
    else:
        subject.engine.control("")


def _watch_once(
    subject: Subject, kind: str, n_watchers: int, size: Size, seen: list[Watched]
) -> Sequence[float]:
    seen.append(watch(subject, kind, n_watchers, size.span_s))
    return ()


def watch(subject: Subject, kind: str, n_watchers: int, span_s: float) -> Watched:
    """Have so many watch for a span, or until the pull is over."""
    pid = subject.daemon.pid
    model = f"127.0.0.1:{pick_free_port()}/library/watched"  # nobody listens there: the daemon's own look is short
    command = [
        *(sys.executable, "-m", "bench.growth.watcher_program", kind),
        *(str(subject.daemon.port), str(n_watchers), str(span_s), model),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        program.stdout.readline()
        before_s, began_s = busy_s(pid), time.monotonic()
        said = program.stdout.readline()
        used_s, passed_s = busy_s(pid) - before_s, time.monotonic() - began_s
    if not said:
        raise RuntimeError(f"the {kind} watchers failed; they say why above")
    saw = json.loads(said)
    return Watched(used_s, passed_s, subject.resident_bytes() / MIB, saw["n"], saw["late_ms"], saw["took_s"])


def _add(outcome: Outcome, kind: str, name: str, seen: dict[int, list[Watched]], size: Size) -> None:
    def rounds(of: Callable[[Watched], Sequence[float]]) -> dict[int, list[Sequence[float]]]:
        return {n: [of(one) for one in each] for n, each in seen.items()}

    add = partial(add_growth, outcome, noun=NOUN)
    add(
        f"{name}: processor time of the daemon", rounds(lambda one: [one.busy_percent]), "% of a core",
        goal=linear(size.watchers),
    )  # fmt: skip
    late = rounds(lambda one: one.late_ms)
    add(f"{name}: lateness, p50", late, "ms")
    add(f"{name}: lateness, p99", late, "ms", of=p99)
    add(f"{name}: resident", rounds(lambda one: [one.resident_mib]), "MiB", goal=flat())
    if kind == "pull":
        add(f"{name}: the pull takes", rounds(lambda one: [one.took_s]), "s", goal=flat())
        add(
            f"{name}: lines told",
            rounds(lambda one: [one.n / one.took_s]),
            "a second",
            goal=linear(size.watchers),
        )
    if kind == "logs":
        n_missed = sum(one.n for each in seen.values() for one in each)
        outcome.figures.append(Figure(f"{name}: lines missed by any", n_missed, "lines", Goal("==", 0)))


def _deaf(subject: Subject, size: Size, outcome: Outcome) -> None:
    """As many as may be follow a noisy pull and read nothing: what is kept for them must come to an end."""
    n_deaf = size.watchers[-1]
    n_lines = round((size.deaf_s + 2 * size.span_s) / DEAF_LINE_S)
    subject.engine.control(f"pull,lines={n_lines},line_s={DEAF_LINE_S},total={STAMP_TOTAL},stamped=1")
    before_bytes = subject.resident_bytes()
    with _sampled(subject) as samples:
        watch(subject, "deaf", n_deaf, size.deaf_s)
    late = samples[2 * len(samples) // 3 :]  # by then the kernel's buffers are full
    name = f"{n_deaf} deaf watchers of a pull of {1 / DEAF_LINE_S:g} lines a second"
    outcome.samples[f"{name}: resident bytes"] = samples
    outcome.figures += (
        Figure(f"{name}: resident at most, above before", (max(samples) - before_bytes) / MIB, "MiB"),
        Figure(f"{name}: growth in the last third", (late[-1] - late[0]) / MIB, "MiB", MOST_DEAF_MIB),
    )
    outcome.figures.append(Figure("the same pull when they have left", _rest(subject, size), "% of a core"))


def _rest(subject: Subject, size: Size) -> float:
    """Processor time of the daemon while nobody watches, in percent of a core."""
    before_s = busy_s(subject.daemon.pid)
    time.sleep(size.span_s)
    return (busy_s(subject.daemon.pid) - before_s) / size.span_s * 100


@contextmanager
def _sampled(subject: Subject) -> Iterator[list[float]]:
    """Resident bytes, ten times a second."""
    samples: list[float] = [subject.resident_bytes()]
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            samples.append(subject.resident_bytes())

    thread = threading.Thread(target=run, name="memory", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
