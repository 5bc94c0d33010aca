"""A flood of recorded lines below the whole daemon: how fast it is copied, and what that costs everybody else.

The daemon runs on one core; the engine, the reader of the daemon's stdout and the probe on the others. Before and
after, a script of ten lines copies as much on that core and looks for one word: what the machine does at this moment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Figure, Goal, Outcome, percentile
from bench.logs.rule_lines import MARK, RULE_LINES, SOWN, sowing_text, sown_outcomes
from bench.machine import REPOSITORY
from bench.subject import MemoryWatch, health_probe, ready_daemon, wait_for

if TYPE_CHECKING:
    from bench.subject import Subject

SESSION: Final = Path(__file__).with_name("engine_session.log")
FULL_MB: Final = 1000
QUICK_MB: Final = 100
QUICK_FLOODS: Final = 2
COPIED_MB: Final = 100
COPIER: Final = "a script that copies and looks for one word"
LIMIT_S: Final = 180.0
SETTLE_S: Final = 2.0
TAIL_BYTES: Final = 4096
MIB: Final = 1 << 20
OVER: Final = b"replay over\n"
"""The last line of a replay."""

AT_LEAST_100: Final = Goal(">=", 100, "flood")
FLAT: Final = Goal("<=", 10, "flood")
IN_50_MS: Final = Goal("<=", 50)
NONE: Final = Goal("==", 0, "flood")


@dataclass(frozen=True, slots=True)
class Flood:
    """One way to flood. `pace` is in the words of the fake engine's `replay`."""

    name: str
    pace: str
    is_read: bool = True
    is_goal: bool = True
    """Whether the goals hold here: a writer without bounds is faster than any reader, and lines are skipped."""


FLOODS: Final = (
    Flood("as fast as it is copied", "ahead_mb=32"),
    Flood("100 MB/s", "mb_per_s=100"),
    Flood("100 MB/s, stdout /dev/null", "mb_per_s=100", is_read=False),
    Flood("unthrottled", "mb_per_s=0", is_goal=False),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What the engine noted: instants and durations in nanoseconds of the monotonic clock."""

    began_ns: int
    ended_ns: int
    bytes: int
    write_ns: list[int]
    sown_ns: list[int]

    @property
    def mb_per_s(self) -> float:
        """How fast it wrote."""
        return self.bytes / (self.ended_ns - self.began_ns) * 1e3

    def write_ms(self) -> list[float]:
        """How long each write took."""
        return [ns / 1e6 for ns in self.write_ns]


def measure(*, is_quick: bool) -> Outcome:
    """Each flood of 1 GB (quick: two of 100 MB), beside the same writer whose file nobody follows."""
    total_mb = QUICK_MB if is_quick else FULL_MB
    outcome = Outcome()
    core = min(os.sched_getaffinity(0)) if len(os.sched_getaffinity(0)) > 1 else None
    everywhere = os.sched_getaffinity(0)
    if core is None:
        outcome.remarks.append("one core only: daemon, engine and probe share it")
    else:
        outcome.remarks.append(
            f"daemon on core {core} alone, engine, stdout's reader and probe on the others"
        )
        os.sched_setaffinity(0, everywhere - {core})
    outcome.remarks.append(f"{total_mb} MB each, one rule line in {sow_mb(total_mb):g} MB")
    try:
        _touch_memory(3 * total_mb)
        alone = {pace: _write_unfollowed(total_mb, pace) for pace in {_unpaced(flood) for flood in FLOODS}}
        for flood in FLOODS[:QUICK_FLOODS] if is_quick else FLOODS:
            _measure_flood(flood, total_mb, core, alone[_unpaced(flood)], outcome)
    finally:
        os.sched_setaffinity(0, everywhere)
    return outcome


def sow_mb(total_mb: int) -> float:
    """One rule line in so many megabytes: about a hundred in all."""
    return total_mb / 100


def _unpaced(flood: Flood) -> str:
    return "mb_per_s=0" if flood.pace.startswith("ahead_mb") else flood.pace


def _measure_flood(flood: Flood, total_mb: int, core: int | None, alone: Written, outcome: Outcome) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        ready_daemon(is_read=flood.is_read, kept=MARK, core=core) as subject,
    ):
        copied_mb_per_s = [_copy_bare(core)]
        watch = MemoryWatch(subject)
        before_bytes, before_cpu_s = subject.resident_bytes(), subject.cpu_s()
        with watch.running(), health_probe(subject.daemon.port) as probed:
            time.sleep(0.5)
            written, level_ns = _flood(subject, Path(folder), f"{_replay(total_mb)},{flood.pace}")
            cpu_s = subject.cpu_s() - before_cpu_s
        copied_mb_per_s.append(_copy_bare(core))
        time.sleep(SETTLE_S)
        after_bytes = subject.resident_bytes()
        name = flood.name
        goal = AT_LEAST_100 if flood.pace.startswith("ahead_mb") else None
        took_s = (level_ns - written.began_ns) / 1e9
        level, copied = written.bytes / took_s / 1e6, max(copied_mb_per_s)
        outcome.samples[f"{name}: the copier MB/s"] = copied_mb_per_s  # the second beside a compression
        beside, ratio = (f"{COPIER} ({copied:.0f} MB/s)", level / copied) if goal else ("", None)
        outcome.figures += (
            Figure(f"{name}: written to level", level, "MB/s", goal, beside, ratio),
            Figure(f"{name}: processor time of the daemon", cpu_s, "s"),
            Figure(f"{name}: level after the last write", (level_ns - written.ended_ns) / 1e6, "ms"),
        )
        _add_memory(outcome, flood, watch.samples, before_bytes, after_bytes)
        _add_rule_lines(outcome, flood, subject, len(written.sown_ns))
        health_ms = [ns / 1e6 for due, ns, _ in probed if written.began_ns <= due <= level_ns]
        outcome.add_percentiles(
            f"{name}: /health", health_ms, "ms", max_goal=IN_50_MS if flood.is_goal else None
        )
        outcome.samples[f"{name}: the probe's own lateness ms"] = [late / 1e6 for _, _, late in probed]
        _add_writes(outcome, name, written, alone)


def _replay(total_mb: int) -> str:
    return f"replay,file={SESSION},total_mb={total_mb},sow_mb={sow_mb(total_mb)}"


def _flood(subject: Subject, folder: Path, replay: str) -> tuple[Written, int]:
    """Have the engine write; what it noted, and the instant at which its last line stood in the public log."""
    (folder / "sow").write_text(sowing_text(), encoding="utf-8")
    subject.engine.control(f"{replay},sow={folder / 'sow'},note={folder / 'note'}")
    public_log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    wait_for(lambda: OVER in tail_of(public_log), what="the public log is level", limit_s=LIMIT_S)
    level_ns = time.monotonic_ns()
    wait_for(lambda: (folder / "note").exists(), what="the engine's note")
    return Written(**json.loads((folder / "note").read_text())), level_ns


def tail_of(path: Path) -> bytes:
    """The end of the public log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read()
    except FileNotFoundError:  # it is being rotated
        return b""


def _write_unfollowed(total_mb: int, pace: str) -> Written:
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        note = Path(folder, "note")
        program = REPOSITORY / "tests" / "engine" / "fake_replay.py"
        with Path(folder, "engine.log").open("ab") as log:
            subprocess.run(
                [
                    sys.executable,
                    str(program),
                    f"replay,file={SESSION},total_mb={total_mb},{pace},note={note}",
                ],
                stderr=log,
                check=True,
            )
        return Written(**json.loads(note.read_text()))


def _copy_bare(core: int | None) -> float:
    """The MB/s of a bare copier on the daemon's core."""
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        source, session = Path(folder, "source"), SESSION.read_bytes()
        source.write_bytes(session * round(COPIED_MB * 1e6 / len(session)))
        under = ("taskset", "--cpu-list", str(core)) if core is not None else ()
        copier = [*under, sys.executable, str(Path(__file__).with_name("bare_copier.py"))]
        said = subprocess.run(
            [*copier, str(source), str(Path(folder, "target"))], check=True, capture_output=True, text=True
        ).stdout
        return source.stat().st_size / float(said.split()[0]) / 1e6


def _touch_memory(mb: int) -> None:
    """Have the page cache take so much once: in a virtual machine a page that was never used costs 10 µs more.

    Without it the engine's writes looked eight times as slow below the daemon, which writes a second file beside it.
    """
    with tempfile.TemporaryFile() as file:
        block = b"x" * 1_000_000
        for _ in range(mb):
            file.write(block)


def _add_memory(
    outcome: Outcome, flood: Flood, samples: list[float], before_bytes: int, after_bytes: int
) -> None:
    name = flood.name
    outcome.samples[f"{name}: resident bytes"] = samples
    most = max(samples, default=before_bytes)
    outcome.figures += (
        Figure(f"{name}: resident before", before_bytes / MIB, "MiB"),
        Figure(f"{name}: resident at most, above before", (most - before_bytes) / MIB, "MiB", FLAT),
        Figure(f"{name}: resident after, above before", (after_bytes - before_bytes) / MIB, "MiB"),
    )


def _add_rule_lines(outcome: Outcome, flood: Flood, subject: Subject, n_sown: int) -> None:
    """What `/api/logs` tells of the sown lines when all is over, and what stdout was given."""
    name, counted = flood.name, _told_outcomes(subject)
    n_missed = (sown_outcomes(n_sown) - counted).total()
    bound = NONE if flood.is_goal else None
    outcome.figures.append(Figure(f"{name}: rule lines missed of {n_sown}", n_missed, "lines", bound))
    if subject.output is None:
        return
    skipped = sum(_int(line["lines"]) for line in subject.output_lines("engine_log_skipped"))
    dropped = sum(_int(line["lines"]) for line in subject.output_lines("stdout_lines_dropped"))
    outcome.figures += (
        Figure(f"{name}: rule lines on stdout", len(subject.output.kept_lines), "lines"),
        Figure(f"{name}: skipped, the lag being too long", skipped, "lines"),
        Figure(f"{name}: dropped from stdout", dropped, "lines"),
    )


def _told_outcomes(subject: Subject) -> Counter[str]:
    """How many of the sown lines `/api/logs` holds, by their outcome."""
    told: Counter[str] = Counter()
    for name, _ in RULE_LINES:
        page = subject.daemon.get(f"/api/logs?outcome={name}&lines=5000").json()
        told[name] = sum(SOWN.search(line["text"].encode()) is not None for line in page["lines"])
    return told


def _add_writes(outcome: Outcome, name: str, written: Written, alone: Written) -> None:
    """How long the engine's writes took, beside those of the same writer whose file nobody follows."""
    ours, theirs = written.write_ms(), alone.write_ms()
    outcome.samples[f"{name}: a write ms"] = ours
    outcome.samples[f"{name}: a write unfollowed ms"] = theirs
    outcome.figures.append(
        Figure(
            f"{name}: the engine wrote",
            written.mb_per_s,
            "MB/s",
            None,
            f"unfollowed ({alone.mb_per_s:.0f} MB/s)",
            written.mb_per_s / alone.mb_per_s,
        )
    )
    for percent, label in ((50.0, "p50"), (99.0, "p99"), (100.0, "max")):
        mine, other = percentile(ours, percent), percentile(theirs, percent)
        outcome.figures.append(
            Figure(
                f"{name}: a write of 64 KiB, {label}",
                mine,
                "ms",
                None,
                f"unfollowed ({other:.3g} ms)",
                mine / other,
            )
        )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
