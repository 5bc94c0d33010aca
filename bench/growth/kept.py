"""What the daemon keeps of a long life by design, each fed alone by a clock that is set forward: how much it weighs."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.incidents.incident_book import IncidentBook
from arasul_supervisor.healing.incidents.incident_store import MAX_BYTES, MAX_INCIDENTS, IncidentStore
from arasul_supervisor.logs.engine_log import RING_LINES
from arasul_supervisor.logs.meaning.screen import screen
from arasul_supervisor.logs.ring import LineFilter, LogBlock, Ring
from arasul_supervisor.telemetry.history import History, Sample
from bench.figures import Figure, Goal, Outcome
from bench.logs.flood import SESSION
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable

Kept = TypeVar("Kept")
DAY_S: Final = 86400
PERIOD_S: Final = 5.0
LINES_A_DAY: Final = 500
MOST_OF_LINES_KIB: Final = 8 * 1024
"""The text of all lines may have 4 MiB; as much again for what is known of them."""
TAIL: Final = (
    'time=2026-11-29T08:12:03.000Z level=ERROR source=server.go:512 msg="something went wrong"',
) * 20


class Silent:
    """A log that keeps nothing."""

    def info(self, event: str, **fields: object) -> None:
        """Nothing."""

    debug = warning = error = info


def add_kept(outcome: Outcome, n_days: int, *, crashes_a_day: int) -> None:
    """Add what the samples of so many days weigh, the lines, and the incidents, none of which is like another."""
    n_samples = round(n_days * DAY_S / PERIOD_S)
    history, kib = _weighed(lambda: _history_of(n_samples))
    kept = len(history.last(float("inf"), now_mono=n_samples * PERIOD_S))
    outcome.figures.append(Figure(f"history: {kept} kept of {n_samples:,} samples", kib, "KiB"))
    n_lines = n_days * LINES_A_DAY
    ring, kib = _weighed(lambda: _ring_of(n_lines))
    kept = len(ring.latest(n_lines, LineFilter()).lines)
    outcome.figures += (
        Figure(f"log: kept of {n_lines:,} lines, each read alone", kept, "", Goal("<=", RING_LINES)),
        Figure("log: in memory", kib, "KiB", Goal("<=", MOST_OF_LINES_KIB)),
    )
    n_incidents = n_days * crashes_a_day
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        book, kib = _weighed(lambda: asyncio.run(_book_of(n_incidents, Path(folder))))
        on_disk = [file.stat().st_size for file in Path(folder).iterdir()]
    n_kept = len(book.newest_first(n_incidents))
    outcome.figures += (
        Figure(f"incidents: kept of {n_incidents:,}", n_kept, "", Goal("<=", MAX_INCIDENTS)),
        Figure("incidents: in memory", kib, "KiB"),
        Figure("incidents: files", len(on_disk), "", Goal("<=", MAX_INCIDENTS)),
        Figure("incidents: on disk", sum(on_disk) / 1024, "KiB", Goal("<=", MAX_BYTES / 1024)),
    )


def _history_of(n_samples: int) -> History:
    history = History(PERIOD_S)
    for number in range(n_samples):
        value = number + 0.5
        history.add(Sample(*(value for _ in range(8))), taken_mono=number * PERIOD_S)
    return history


def _ring_of(n_lines: int) -> Ring:
    """Recorded lines, each a block of its own, as a quiet engine writes them: so they weigh most."""
    lines, ring = SESSION.read_bytes().splitlines(keepends=True), Ring(limit_lines=RING_LINES)
    for number in range(n_lines):
        seen = screen(lines[number % len(lines)])
        ring.append(LogBlock(ring.next_seq, float(number), 1, seen.data, seen.n_lines, seen.matches))
    return ring


async def _book_of(n_incidents: int, folder: Path) -> IncidentBook:
    """A book into which so many incidents were written, and settled."""
    clock = HandClock()
    book = IncidentBook(IncidentStore(folder), clock=clock, log=Silent())
    for number in range(n_incidents):
        clock.now += DAY_S / n_incidents
        incident_id = book.open(
            Kind.ENGINE_CRASHED, what=f"Fault {number}.", evidence=f"Line {number}.", log_tail=TAIL
        )
        book.add_step(incident_id, Cure.RESTART_ENGINE, f"Step of {number}.")
        book.close(incident_id, result=Result.CURED, detail=f"Over {number}.")
        await asyncio.sleep(0)
    await book.settle()
    return book


def _weighed(make: Callable[[], Kept]) -> tuple[Kept, float]:
    """What was made, and the KiB of memory that it holds."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    weight = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return made, weight / 1024
