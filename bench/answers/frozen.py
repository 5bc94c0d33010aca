"""What the daemon answers while its engine stands still (SIGSTOP), how soon, and whether it is the truth.

Nothing heals meanwhile (`ARASUL_HEAL=observe`): the daemon would let the engine go on.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.answers.cores import one_core_apart
from bench.answers.ollama import MODEL, make_store, ollama_or_remark
from bench.answers.wrk import Load, find_wrk
from bench.figures import WIDE_AT_THE_END, Figure, Goal, Outcome
from bench.rounds import tell_progress
from bench.subject import ready_daemon, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.answers.wrk import Wrk
    from bench.subject import Subject

CONNECTIONS: Final = 16
ROUND_S: Final = 1
FULL_ROUNDS: Final = 5
QUICK_ROUNDS: Final = 1
FULL_CLEARS: Final = 6
QUICK_CLEARS: Final = 1
CLEAR_TIMEOUT_S: Final = 20.0
FROM_MEMORY: Final = (
    *("/livez", "/readyz", "/api/info", "/api/stats", "/api/process", "/api/incidents"),
    *("/api/models", "/api/models/pulls", "/api/logs"),
)
ASKED_OF_THE_ENGINE: Final = "/api/models/loaded"

IN_50_MS: Final = Goal("<=", 50, "health while frozen")
ALSO_IN_50_MS: Final = Goal("<=", 50)
IN_3_S: Final = Goal("<=", 3)
ALL: Final = Goal("==", 0, "health while frozen")
IN_5_S: Final = Goal("<=", 5, "cache clear while frozen")
TRUTHFUL: Final = Goal("==", 0, "cache clear while frozen")


def measure(*, is_quick: bool) -> Outcome:
    """Over the fake engine, and (not quick) over the real Ollama."""
    outcome = Outcome()
    wrk = find_wrk()
    if isinstance(wrk, str):
        outcome.remarks.append(f"NOT MEASURED: {wrk}")
        return outcome
    with one_core_apart(outcome) as core:
        with ready_daemon(core=core, env={"ARASUL_HEAL": "observe"}) as subject:
            _measure("fake engine", subject, wrk, outcome, is_quick=is_quick)
        ollama = None if is_quick else ollama_or_remark(outcome)
        if ollama is not None:
            with (
                tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
                ready_daemon(
                    core=core,
                    engine_program=ollama,
                    models=make_store(Path(folder)),
                    env={"ARASUL_HEAL": "observe"},
                ) as subject,
            ):
                _measure("Ollama", subject, wrk, outcome, is_quick=is_quick)
    outcome.remarks.append(
        f"wrk -t1 with {CONNECTIONS} connections, {ROUND_S} s each: the engine awake, the first second after its "
        "SIGSTOP, and when /health calls it unhealthy"
    )
    return outcome


def _measure(engine: str, subject: Subject, wrk: Wrk, outcome: Outcome, *, is_quick: bool) -> None:
    assert subject.daemon.engine("POST", "/api/generate", {"model": MODEL}).status == 200
    subject.daemon.get("/api/models")
    loads = _health_loads(subject, wrk, QUICK_ROUNDS if is_quick else FULL_ROUNDS, outcome, engine)
    memory_loads = {} if is_quick else _memory_loads(engine, subject, wrk, outcome)
    unanswered = sum(
        load.n_unanswered for one in (loads, memory_loads) for each in one.values() for load in each
    )
    answered = sum(load.n_answers for one in (loads, memory_loads) for each in one.values() for load in each)
    outcome.figures.append(
        Figure(f"{engine} frozen: requests not answered, of {answered}", unanswered, "", ALL)
    )
    _clears(engine, subject, QUICK_CLEARS if is_quick else FULL_CLEARS, outcome)


def _health_loads(
    subject: Subject, wrk: Wrk, rounds: int, outcome: Outcome, engine: str
) -> dict[str, list[Load]]:
    """`/health` awake, just frozen, and known to be frozen, in each round."""
    names = ("awake", "in the first second", "when it is told")
    loads: dict[str, list[Load]] = {name: [] for name in names}
    told_s: list[float] = []

    def load(name: str) -> None:
        loads[name].append(wrk.load(subject.daemon.port, "/health", connections=CONNECTIONS, seconds=ROUND_S))

    for turn in range(rounds):
        load("awake")
        with _frozen(subject):
            began_s = time.monotonic()
            load("in the first second")
            _wait_until_told(subject)
            told_s.append(time.monotonic() - began_s)
            load("when it is told")
        tell_progress(f"{engine}: round {turn + 1} of {rounds}")
    awake = [[load.p99_ms] for load in loads["awake"]]
    for name in names[1:]:
        outcome.add_rounds(
            f"{engine} frozen: /health {name}, p99",
            [[load.p99_ms] for load in loads[name]],
            "ms",
            goal=IN_50_MS,
            beside=("awake", awake),
            wide=WIDE_AT_THE_END,
        )
    outcome.add_rounds(f"{engine} frozen: SIGSTOP until /health tells it", [[one] for one in told_s], "s")
    return loads


def _memory_loads(engine: str, subject: Subject, wrk: Wrk, outcome: Outcome) -> dict[str, list[Load]]:
    """The other endpoints that need no engine, and one that asks it, while it is known to be frozen."""
    loads: dict[str, list[Load]] = {}
    with _frozen(subject):
        _wait_until_told(subject)
        for path in FROM_MEMORY:
            loads[path] = [wrk.load(subject.daemon.port, path, connections=CONNECTIONS, seconds=ROUND_S)]
            outcome.figures.append(
                Figure(
                    f"{engine} frozen: {path}, p99",
                    loads[path][0].p99_ms,
                    "ms",
                    ALSO_IN_50_MS,
                    n=loads[path][0].n_answers,
                )
            )
        asked = subject.daemon.get(ASKED_OF_THE_ENGINE)
        outcome.figures.append(
            Figure(
                f"{engine} frozen: {ASKED_OF_THE_ENGINE} says {asked.status} after", asked.took_s, "s", IN_3_S
            )
        )
    return loads


def _clears(engine: str, subject: Subject, number: int, outcome: Outcome) -> None:
    """`POST /api/cache/clear` at once after the freeze, and when it is told, in turn."""
    took_s: list[float] = []
    n_false = 0
    for turn in range(number):
        with _frozen(subject):
            if turn % 2:
                _wait_until_told(subject)
            answer = subject.daemon.post("/api/cache/clear", timeout_s=CLEAR_TIMEOUT_S)
            took_s.append(answer.took_s)
            n_false += answer.status != 504 or b"success" in answer.body
        tell_progress(f"{engine}: clear {turn + 1} of {number}")
    outcome.samples[f"{engine} frozen: cache clear s"] = took_s
    name = f"{engine} frozen: cache clear"
    outcome.figures += (
        Figure(f"{name}, longest", max(took_s), "s", IN_5_S, n=number),
        Figure(f"{name}, anything but 504", n_false, "", TRUTHFUL, n=number),
    )


@contextmanager
def _frozen(subject: Subject) -> Iterator[None]:
    """The engine stands still meanwhile; afterwards it is healthy again."""
    pid = int(subject.daemon.process()["pid"])
    with ExitStack() as at_end:
        at_end.callback(_wait_until_well, subject)
        at_end.callback(os.kill, pid, signal.SIGCONT)
        os.kill(pid, signal.SIGSTOP)
        yield


def _wait_until_told(subject: Subject) -> None:
    wait_for(lambda: subject.daemon.get("/health").status == 503, what="/health is 503")


def _wait_until_well(subject: Subject) -> None:
    wait_for(lambda: subject.daemon.get("/health").status != 503, what="/health is 200 again")
