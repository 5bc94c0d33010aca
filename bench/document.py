"""`python -m bench.document`: writes the newest figures of each bench into docs/performance.md.

A table stands between `<!-- bench NAME -->` and `<!-- /bench NAME -->`, the budgets between those of `budgets`.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from bench.__main__ import RESULTS
from bench.budgets import BUDGETS
from bench.figures import COLUMNS, Figure, Goal, cells, number
from bench.machine import REPOSITORY, machine_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOCUMENT: Final = REPOSITORY / "docs" / "performance.md"
_PLACE: Final = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- /bench \2 -->)", re.DOTALL)


def main() -> int:
    """Write the tables; 1 when the document has no place for a bench that was measured."""
    reports = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    whole = {name: one for name, one in reports.items() if not one["is_quick"]}
    text = DOCUMENT.read_text("utf-8")
    tables = {name: _table(one) for name, one in whole.items()} | {"budgets": _budgets(whole)}
    written = _PLACE.sub(lambda found: f"{found[1]}{tables.get(found[2], '')}{found[3]}", text)
    DOCUMENT.write_text(written, "utf-8")
    missing = set(tables) - {found[2] for found in _PLACE.finditer(text)}
    if missing:
        print(f"docs/performance.md has no place for {', '.join(sorted(missing))}", file=sys.stderr)
    return int(bool(missing))


def figures_in(report: Mapping[str, Any]) -> list[Figure]:  # Any: JSON that `python -m bench` wrote
    """The figures as they were measured."""
    return [
        Figure(**{**one, "goal": Goal(**one["goal"]) if one["goal"] else None}) for one in report["figures"]
    ]


def _table(report: Mapping[str, Any]) -> str:
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(cells(figure) for figure in figures_in(report))]
    busy = report["busy"]
    about = f"{machine_line(report['machine'])}; {busy['used']:.2f} cores busy, {busy['stolen']:.2f} stolen."
    remarks = "".join(f"- {remark}\n" for remark in report["remarks"])
    return f"\n{about}\n\n{remarks}{chr(10) if remarks else ''}{_lines(rows)}\n"


def _budgets(reports: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = [("budget", "figure", "seen", "goal", ""), ("---",) * 5]
    for key, promise in BUDGETS.items():
        found = [
            figure
            for report in reports.values()
            for figure in figures_in(report)
            if figure.goal is not None and figure.goal.budget == key
        ]
        if not found:
            rows.append((promise, "", "not measured", "", ""))
        for index, figure in enumerate(found):
            rows.append(("" if index else promise, figure.name, *_seen(figure)))
    return f"\n{_lines(rows)}\n"


def _seen(figure: Figure) -> tuple[str, str, str]:
    if figure.judged is None:
        return "not told", str(figure.goal), figure.verdict
    unit = "×" if figure.is_of_ratio else figure.unit
    return f"{number(figure.judged)} {unit}", f"{figure.goal}", figure.verdict


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
