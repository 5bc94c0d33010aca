"""Requests a second and their delays of what is answered from memory, beside a bare aiohttp handler.

`wrk` asks on kept-alive connections, in turn the daemon and a server of one route whose body has the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.answers.bare_handler import PATH, bare_handler
from bench.answers.cores import one_core_apart
from bench.answers.wrk import Wrk, find_wrk
from bench.figures import WIDE_AT_THE_END, Goal, Outcome
from bench.rounds import alternate
from bench.subject import ready_daemon, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.subject import Subject

ENDPOINTS: Final = ("/health", "/livez", "/api/info", "/api/stats", "/api/models", "/api/process")
JUDGED: Final = "/health"
CONNECTIONS: Final = (1, 16, 64)
JUDGED_CONNECTIONS: Final = 16
ROUNDS: Final = 4
JUDGED_ROUNDS: Final = 8
QUICK_ROUNDS: Final = 4
ROUND_S: Final = 1
TEN_MODELS: Final = ",".join(f"model-{number}:latest=450784" for number in range(10))
BARE: Final = "bare aiohttp"

NEARLY_AS_MANY: Final = Goal(">=", 0.85, "health")
ENOUGH: Final = Goal(">=", 20_000, "health")


@dataclass(frozen=True, slots=True)
class Case:
    """One endpoint at so many connections."""

    path: str
    connections: int

    @property
    def is_judged(self) -> bool:
        """Whether the budget speaks of it."""
        return self.path == JUDGED and self.connections == JUDGED_CONNECTIONS

    @property
    def name(self) -> str:
        """`/health, 16 connections`."""
        return f"{self.path}, {self.connections} connection{'s' if self.connections > 1 else ''}"


def measure(*, is_quick: bool) -> Outcome:
    """Each endpoint at 1, 16 and 64 connections; quick: what the budget speaks of."""
    outcome = Outcome()
    wrk = find_wrk()
    if isinstance(wrk, str):
        outcome.remarks.append(f"NOT MEASURED: {wrk}")
        return outcome
    cases = [Case(path, connections) for path in ENDPOINTS for connections in CONNECTIONS]
    with (
        one_core_apart(outcome) as core,
        ready_daemon(core=core, env={"FAKE_OLLAMA_MODELS": TEN_MODELS}) as subject,
    ):
        wait_for(
            lambda: subject.daemon.get("/api/models").json()["count"] == 10, what="ten models are listed"
        )
        for case in cases:
            if case.is_judged or not is_quick:
                most = QUICK_ROUNDS if is_quick else JUDGED_ROUNDS
                _measure(case, subject, wrk, core, outcome, rounds=most if case.is_judged else ROUNDS)
    outcome.remarks.append(
        f"wrk -t1, in turns of {ROUND_S} s; the bare handler is a web.Application of one route with access_log=None "
        "and a ready-made body of the same size and type (bench/answers/bare_handler.py)"
    )
    return outcome


def _measure(
    case: Case, subject: Subject, wrk: Wrk, core: int | None, outcome: Outcome, *, rounds: int
) -> None:
    size = len(subject.daemon.get(case.path).body)
    n_failed = 0

    def load(port: int, path: str) -> Callable[[], list[float]]:
        def one_round() -> list[float]:
            nonlocal n_failed
            seen = wrk.load(port, path, connections=case.connections, seconds=ROUND_S)
            n_failed += seen.n_refused + seen.n_unanswered
            return [seen.requests_per_s, seen.p50_ms, seen.p99_ms]

        return one_round

    with bare_handler(size, core) as bare_port:
        taken = alternate(
            {"daemon": load(subject.daemon.port, case.path), BARE: load(bare_port, PATH)},
            rounds=rounds,
        )
    ours, theirs = taken["daemon"], taken[BARE]
    for column, (what, unit, wide) in enumerate(
        (("requests", "/s", 0.3), ("p50", "ms", 0.3), ("p99", "ms", WIDE_AT_THE_END))
    ):
        outcome.add_rounds(
            f"{case.name}: {what}",
            [[one[column]] for one in ours],
            unit,
            beside=(BARE, [[one[column]] for one in theirs]),
            goal=NEARLY_AS_MANY if case.is_judged and column == 0 else None,
            is_of_ratio=True,
            wide=wide,
        )
    if case.is_judged:
        outcome.add_rounds(f"{case.name}: requests, by itself", [[one[0]] for one in ours], "/s", goal=ENOUGH)
    if n_failed:
        raise RuntimeError(f"{case.name}: {n_failed} requests were refused or not answered")
