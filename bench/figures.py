"""What a bench gives: figures with their goals, raw samples, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS: Final = ("what", "figure", "unit", "goal", "", "side by side")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure is held against, such as `<= 50`."""

    sense: Literal["<=", ">=", "=="]
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Whether the figure is good enough."""
        if self.sense == "==":
            return value == self.bound
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `beside` names what was measured beside it in the same run; `ratio` is ours over theirs."""

    name: str
    value: float
    unit: str
    goal: Goal | None = None
    beside: str = ""
    ratio: float | None = None

    @property
    def is_missed(self) -> bool:
        """True when there is a goal and the figure does not reach it."""
        return self.goal is not None and not self.goal.is_met_by(self.value)


@dataclass(slots=True)
class Outcome:
    """All that one bench found. `samples` are raw, by a name that says their unit."""

    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, Sequence[float]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def add_percentiles(
        self,
        name: str,
        samples: Sequence[float],
        unit: str,
        *,
        p99_goal: Goal | None = None,
        max_goal: Goal | None = None,
    ) -> None:
        """Add p50, p99 and the longest of the samples, and the samples themselves."""
        self.samples[f"{name} {unit}"] = samples
        if not samples:
            self.remarks.append(f"{name}: nothing was seen.")
            return
        self.figures += (
            Figure(f"{name}, p50 of {len(samples)}", percentile(samples, 50), unit),
            Figure(f"{name}, p99", percentile(samples, 99), unit, p99_goal),
            Figure(f"{name}, max", max(samples), unit, max_goal),
        )


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns; a missed goal is marked."""
    rows = [COLUMNS]
    for figure in figures:
        beside = f"{figure.ratio:.2f} x {figure.beside}" if figure.ratio is not None else figure.beside
        met = "" if figure.goal is None else "MISSED" if figure.is_missed else "ok"
        rows.append((figure.name, _number(figure.value), figure.unit, str(figure.goal or ""), met, beside))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
