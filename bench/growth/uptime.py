"""Thirty bad days in minutes: crashes, incidents, loads, pulls, requests and log lines; does anything grow.

The whole daemon over the fake engine goes through what such days would bring, one day after the other, and what it
holds is looked at after each.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Figure, Goal, Outcome
from bench.growth.kept import add_kept
from bench.logs.flood import SESSION
from bench.rounds import tell_progress
from bench.subject import ready_daemon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.subject import Subject

FULL_DAYS, QUICK_DAYS = 30, 4
CRASHES_A_DAY: Final = 40
LOADS_A_DAY: Final = 24
PULLS_A_DAY: Final = 6
NOBODY: Final = "127.0.0.1:1"
"""A registry that is not there: the daemon's own look into it ends at once, and the fake engine pulls all the same."""
LOG_MB_A_DAY: Final = 4
ASKED_A_DAY: Final = {
    "/health": 2880,
    "/api/stats": 288,
    "/api/process": 288,
    "/api/models": 96,
    "/api/logs?lines=1000": 48,
    "/api/incidents": 24,
    "/api/models/pulls": 24,
}
"""A container's HEALTHCHECK each 30 s, a dashboard each 5 min, and people now and then."""
MIB: Final = 1 << 20
FLAT_MIB: Final = Goal("<=", 1.0)
NO_MORE: Final = Goal("<=", 0)
SETTINGS: Final = {
    "ARASUL_STABLE_SECONDS": "0",
    "ARASUL_BACKOFF_RESET": "0",
    "ARASUL_RESTORE": "off",
    "ARASUL_LOG_MAX_BYTES": "8MiB",
}
LIMIT_S: Final = 30.0


@dataclass(slots=True)
class Held:
    """What the daemon held after each day."""

    resident_mib: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    state_kib: list[float] = field(default_factory=list)
    log_mib: list[float] = field(default_factory=list)

    def look(self, subject: Subject) -> None:
        """Once."""
        pid, daemon = subject.daemon.pid, subject.daemon
        self.resident_mib.append(subject.resident_bytes() / MIB)
        self.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))
        self.threads.append(len(os.listdir(f"/proc/{pid}/task")))
        self.state_kib.append(_bytes_below(daemon.state_dir, but="spool") / 1024)
        log = Path(daemon.environment["ARASUL_LOG_FILE"])
        self.log_mib.append(sum(file.stat().st_size for file in log.parent.glob(f"{log.name}*")) / MIB)


def measure(*, is_quick: bool) -> Outcome:
    """As many days; quick: four of them."""
    n_days = QUICK_DAYS if is_quick else FULL_DAYS
    outcome, held = Outcome(), Held()
    modes = {"FAKE_OLLAMA": "runners,family=0.34;tokens,s=0.001"}
    with ready_daemon(env={**SETTINGS, **modes}) as subject:
        for day in range(n_days):
            _live_a_day(subject)
            held.look(subject)
            tell_progress(f"day {day + 1} of {n_days}")
        process = subject.daemon.process()
    outcome.remarks += (
        f"{n_days} days of {CRASHES_A_DAY} crashes, {LOADS_A_DAY} loads, {PULLS_A_DAY} pulls, {LOG_MB_A_DAY} MB of"
        f" log and {sum(ASKED_A_DAY.values())} requests each, one after the other;"
        f" {process['restarts']} restarts in all.",
        "Growth is from the middle days to the last ones, medians of a fifth of the days each.",
    )
    _add(outcome, held, n_days)
    add_kept(outcome, n_days, crashes_a_day=CRASHES_A_DAY)
    return outcome


def _live_a_day(subject: Subject) -> None:
    daemon = subject.daemon
    subject.engine.control(
        f"{daemon.environment['FAKE_OLLAMA']};replay,file={SESSION},total_mb={LOG_MB_A_DAY},mb_per_s=20"
    )
    with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)) as connection:
        for path, n_times in ASKED_A_DAY.items():
            for _ in range(n_times):
                connection.request("GET", path)
                connection.getresponse().read()
        for number in range(LOADS_A_DAY):
            _post(
                connection, "/api/generate", {"model": f"model{number % 3}", "prompt": "a", "stream": False}
            )
        _post(connection, "/api/cache/clear", {})
        for number in range(PULLS_A_DAY):
            model = f"{NOBODY}/library/pulled{number}"
            _post(connection, "/api/models/pull", {"model": model, "insecure": True, "stream": False})
    subject.engine.control("")
    for _ in range(CRASHES_A_DAY):
        _crash(subject)


def _post(connection: http.client.HTTPConnection, path: str, body: object) -> None:
    connection.request("POST", path, json.dumps(body))
    connection.getresponse().read()


def _crash(subject: Subject) -> None:
    before = subject.daemon.process()
    os.kill(before["pid"], signal.SIGKILL)
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        now = subject.daemon.process()
        if now["generation"] > before["generation"] and now["ready_at"]:
            return
        time.sleep(0.002)
    raise TimeoutError(f"the engine was not ready again within {LIMIT_S:g} s of its crash")


def _add(outcome: Outcome, held: Held, n_days: int) -> None:
    for name, values, unit, goal in (
        ("resident memory", held.resident_mib, "MiB", FLAT_MIB),
        ("descriptors", held.descriptors, "", NO_MORE),
        ("threads", held.threads, "", NO_MORE),
        ("state folder", held.state_kib, "KiB", None),
        ("public log, all its files", held.log_mib, "MiB", None),
    ):
        outcome.samples[f"{name} {unit}"] = values
        outcome.figures += (
            Figure(f"{name} after the first day", values[0], unit),
            Figure(f"{name} after day {n_days}", values[-1], unit),
            Figure(f"{name}: growth from the middle days to the last", growth_of(values), unit, goal),
        )


def growth_of(values: Sequence[float]) -> float:
    """From the middle fifth to the last one, between their medians."""
    fifth = max(1, len(values) // 5)
    middle = (len(values) - fifth) // 2
    return statistics.median(values[-fifth:]) - statistics.median(values[middle : middle + fifth])


def _bytes_below(folder: Path, *, but: str) -> int:
    """What its files weigh, the engine's spool apart: that has holes where it was read."""
    return sum(
        file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and but not in str(file.relative_to(folder))
    )
