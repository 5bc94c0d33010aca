"""Plays every row of the fault table and writes what was seen into docs/healing.md: `make healing-table`.

python -m tests.engine.healing_table [WORDS]    only the rows whose names hold the words; then to stdout alone
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Cure
from tests.engine.daemon import REPOSITORY, DaemonFactory
from tests.engine.fake import make_fake_engine
from tests.engine.healing_ground import SHORT, find_engine
from tests.engine.healing_play import play, prepare, problems
from tests.engine.healing_rows import ROWS
from tests.engine.store import ModelFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.engine.healing_play import Seen
    from tests.engine.healing_rows import Row

DOCUMENT: Final = REPOSITORY / "docs" / "healing.md"
BEGIN, END = "<!-- table -->", "<!-- /table -->"
HEAD: Final = (
    "| row | fault | engine | `kind` | limit s | found s | cured s | action | the request that it hit "
    "| one that waited, from the cure | tokens of another model |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)
LIMITS: Final = {
    "load_stuck": "ARASUL_LOAD_STUCK_SECONDS",
    "runner_frozen": "ARASUL_SILENT_SECONDS",
    "runner_orphaned": "ARASUL_SILENT_SECONDS",
    "engine_frozen": "ARASUL_SILENT_SECONDS",
    **dict.fromkeys(
        ("runner_stuck", "stopping_stuck", "runner_leaked", "model_deleted", "scheduler_stuck"),
        "ARASUL_STUCK_SECONDS",
    ),
}
FATES: Final = {"none": "–", "goes on": "answered", "is told": "told", "waits": "waits for Ollama"}


def main(words: Sequence[str]) -> int:
    """Play them one after the other; 1 when one was not as it must be."""
    rows = [row for row in ROWS if all(word in str(row) for word in words)]
    lines, n_wrong = [], 0
    for row in rows:
        line, wrong = _played(row)
        print(line, *wrong, sep="\n    ", flush=True)
        lines.append(line)
        n_wrong += bool(wrong)
    print(f"{len(rows) - n_wrong} of {len(rows)} rows as they must be.")
    if not words:
        _write(lines)
    return 1 if n_wrong else 0


def _played(row: Row) -> tuple[str, list[str]]:
    """The line of the table, and what is not as the row says."""
    with tempfile.TemporaryDirectory(prefix="healing-table-") as name:
        folder = Path(name)
        fake = make_fake_engine(folder / "fake")
        daemons = DaemonFactory(folder, fake)
        (folder / "gguf").mkdir()
        try:
            ground = prepare(
                row,
                daemons,
                engine=find_engine(),
                fake=fake,
                folder=folder,
                model_files=ModelFiles(folder / "gguf"),
            )
            seen = play(row, ground)
        except (pytest.fail.Exception, OSError, AssertionError) as error:
            first, *_ = str(error).splitlines() or [repr(error)]
            return _cells(row, "–", "–", f"**{first}**", "", "", ""), [first]
        finally:
            with contextlib.redirect_stdout(None):  # it tells what the daemon said
                daemons.end()
    return _line(row, seen), problems(row, seen)


def _line(row: Row, seen: Seen) -> str:
    action = seen.incident["action"]
    waiting = FATES[seen.waiting]
    if seen.waiting_s is not None:
        waiting = f"{waiting} after {max(0.0, seen.waiting_s):.2f} s"
    cured_s = "–" if action == Cure.NONE.value else f"{seen.closed_s - seen.found_s:.1f}"
    others = "–" if seen.other_gap_s is None else f"at most {seen.other_gap_s:.2f} s apart"
    if not seen.is_engine_kept and seen.answered_s is not None:
        others = f"answered {seen.closed_s + seen.answered_s:.1f} s after the fault"
    return _cells(row, f"{seen.found_s:.1f}", cured_s, f"`{action}`", FATES[seen.victim], waiting, others)


def _cells(row: Row, found_s: str, cured_s: str, action: str, victim: str, waiting: str, others: str) -> str:
    limit = SHORT.get(LIMITS.get(row.kind.value, ""), "–")
    cells = (row.number, row.fault, row.engine, f"`{row.kind.value}`", limit)
    return "| " + " | ".join((*cells, found_s, cured_s, action, victim, waiting, others)) + " |"


def _write(lines: Sequence[str]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join((*HEAD, *lines))
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
