"""A log of 1 MB to 10 GB: what is asked, started and kept must not grow with what was logged before."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs.public_log import PublicLog
from bench.figures import WIDE_AT_THE_END, Figure, Goal, Outcome
from bench.growth.growth import add_growth, busy_s, flat
from bench.logs.flood import OVER, SESSION, tail_of
from bench.rounds import alternate
from bench.subject import ready_daemon, wait_for
from tests.engine.daemon import DaemonFactory
from tests.engine.fake import make_fake_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.subject import Subject

MB: Final = 1_000_000
MIB: Final = 1 << 20
FULL_MB: Final = (1, 100, 1_000, 10_000)
QUICK_MB: Final = (1, 100)
N_ASKED: Final = 20
KEPT_BYTES: Final = 8 * MIB
KEEP: Final = 3
ROOM: Final = 1.5
"""Over the bound of the public files: the spool is freed in steps, and a file is renamed after it is full."""
NO_ROTATION: Final = {"ARASUL_LOG_MAX_BYTES": "12GiB"}
SPOOL_AT_REST: Final = Goal("<=", 2)
"""It is freed in steps of 1 MiB."""
LIMIT_S: Final = 400.0
AHEAD_MB: Final = 32
"""How far the engine is ahead of the daemon at most."""


def measure(*, is_quick: bool) -> Outcome:
    """Starts over a log that lies there, then a log that grows below one daemon; quick: up to 100 MB."""
    outcome, sizes = Outcome(), QUICK_MB if is_quick else FULL_MB
    outcome.remarks.append(
        "A log that lies there is a hole with recorded lines at its end: nobody may read it whole to notice."
    )
    _add_starts(outcome, sizes, rounds=3 if is_quick else 8)
    _add_rotations(outcome, sizes, rounds=4 if is_quick else 20)
    _add_stream(outcome, sizes)
    return outcome


def _add_starts(outcome: Outcome, sizes: tuple[int, ...], *, rounds: int) -> None:
    contenders: dict[str, Callable[[], list[float]]] = {
        _named(mb): partial(_start_over, mb, NO_ROTATION) for mb in sizes
    }
    rotated = f"{_named(sizes[-1])}, which is rotated"
    taken = alternate({**contenders, rotated: partial(_start_over, sizes[-1], {})}, rounds=rounds)
    first = _named(sizes[0])
    outcome.add_rounds(f"start over a log of {first} → /livez", taken[first], "ms")
    for name in (*contenders, rotated):
        if name != first:
            outcome.add_rounds(
                f"start over a log of {name} → /livez", taken[name], "ms", beside=(first, taken[first])
            )


def _start_over(mb: int, env: dict[str, str]) -> list[float]:
    """Milliseconds from the start to the first answer, over a public log of that size."""
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        factory = DaemonFactory(Path(folder), make_fake_engine(Path(folder, "fake")))
        daemon = factory.prepare(env=env)
        _write_log(Path(daemon.environment["ARASUL_LOG_FILE"]), mb)
        began_ns = time.monotonic_ns()
        daemon.start()
        try:
            daemon.wait_live()
            return [(time.monotonic_ns() - began_ns) / 1e6]
        finally:
            with redirect_stdout(None):  # it tells what the daemon said
                factory.end()


def _add_rotations(outcome: Outcome, sizes: tuple[int, ...], *, rounds: int) -> None:
    """One line more than a file of that size takes: how long the write takes that rotates it."""
    taken = alternate({_named(mb): partial(_rotate_ms, mb) for mb in sizes}, rounds=rounds)
    first = _named(sizes[0])
    for name, samples in taken.items():
        beside = None if name == first else (first, taken[first])
        outcome.add_rounds(f"a write that rotates {name}", samples, "ms", beside=beside, wide=WIDE_AT_THE_END)


def _rotate_ms(mb: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        path = Path(folder, "ollama.log")
        _write_log(path, mb)
        log = PublicLog(path, max_bytes=mb * MB, keep=KEEP, clock=SystemClock())
        began_s = time.perf_counter()
        log.write(b"one line more\n")
        took_ms = (time.perf_counter() - began_s) * 1e3
        log.rotation.wait()
        log.close()
        assert path.stat().st_size < MB, "it was not rotated"
    return [took_ms]


def _write_log(log: Path, mb: int) -> None:
    """A hole, and whole lines at its end."""
    _, _, lines = SESSION.read_bytes()[-MB // 2 :].partition(b"\n")
    with log.open("wb") as file:
        file.truncate(max(0, mb * MB - len(lines)))
        file.seek(0, os.SEEK_END)
        file.write(lines)


def _add_stream(outcome: Outcome, sizes: tuple[int, ...]) -> None:
    """One daemon through which ever more goes; what it costs afterwards to ask it, and what lies on the disk."""
    env = {"ARASUL_LOG_MAX_BYTES": str(KEPT_BYTES), "ARASUL_LOG_KEEP": str(KEEP)}
    bound_mib = KEPT_BYTES * (KEEP + 1) / MIB
    most_mib = bound_mib * ROOM + AHEAD_MB * MB / MIB
    passed = 0
    asked_ms: dict[int, list[list[float]]] = {}
    resident: dict[int, list[list[float]]] = {}
    with ready_daemon(env=env) as subject:
        for mb in sizes:
            before_s = busy_s(subject.daemon.pid)
            on_disk = _log(subject, mb - passed)
            each_gb_s = (busy_s(subject.daemon.pid) - before_s) / (mb - passed) * 1000
            passed = mb
            asked_ms[mb] = [[_asked_ms(subject) for _ in range(N_ASKED)]]
            resident[mb] = [[subject.resident_bytes() / MIB]]
            name, spool = f"after {_named(mb)}", _on_disk_mib(subject.daemon.state_dir / "spool")
            outcome.figures += (
                Figure(f"{name}: on disk", _log_mib(subject), "MiB", Goal("<=", bound_mib * ROOM)),
                Figure(f"{name}: on disk at most, meanwhile", max(on_disk), "MiB", Goal("<=", most_mib)),
                Figure(f"{name}: the raw spool, read to its end", spool, "MiB", SPOOL_AT_REST),
                Figure(f"{name}: processor time for each GB, packing too", each_gb_s, "s"),
            )
    add_growth(outcome, "resident memory after", resident, "MiB", "MB", goal=flat())
    add_growth(outcome, "GET /api/logs?lines=5000 after", asked_ms, "ms", "MB", goal=flat())
    outcome.remarks.append(
        f"The public log may take {bound_mib:g} MiB in {KEEP + 1} files (ARASUL_LOG_MAX_BYTES, ARASUL_LOG_KEEP)."
    )


def _log(subject: Subject, mb: int) -> list[float]:
    """Have the engine write so much, as fast as it is copied; what lay on the disk meanwhile, in MiB."""
    log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    note, on_disk = subject.engine.folder / str(mb), [_log_mib(subject)]

    def is_written() -> bool:
        on_disk.append(_log_mib(subject))
        return note.exists()

    subject.engine.control("")
    time.sleep(0.5)
    subject.engine.control(f"replay,file={SESSION},total_mb={mb},ahead_mb={AHEAD_MB},note={note}")
    wait_for(is_written, what=f"{mb} MB were written", limit_s=LIMIT_S)
    wait_for(lambda: OVER in tail_of(log), what="the public log is level", limit_s=LIMIT_S)
    time.sleep(1.0)  # the spool is freed behind
    return on_disk


def _asked_ms(subject: Subject) -> float:
    began_ns = time.monotonic_ns()
    assert subject.daemon.get("/api/logs?lines=5000").status == 200
    return (time.monotonic_ns() - began_ns) / 1e6


def _log_mib(subject: Subject) -> float:
    """What the spool and all files of the public log take on the disk."""
    log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    return _on_disk_mib(*log.parent.glob(f"{log.name}*"), subject.daemon.state_dir)


def _on_disk_mib(*places: Path) -> float:
    """What files, and those in folders, take on the disk; holes take nothing."""
    n_blocks = 0
    for file in (file for place in places for file in (place, *place.rglob("*"))):
        with suppress(FileNotFoundError):  # it has just been moved on
            n_blocks += file.stat().st_blocks if file.is_file() else 0
    return n_blocks * 512 / MIB


def _named(mb: int) -> str:
    return f"{mb / 1000:g} GB" if mb >= 1000 else f"{mb} MB"
