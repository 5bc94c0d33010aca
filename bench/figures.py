"""What a bench gives: figures with their spread and goals, raw samples, and the table that shows them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rounds = Sequence[Sequence[float]]
    """The samples of each round of one run."""

COLUMNS: Final = ("what", "figure", "unit", "n", "spread", "goal", "", "side by side")
WIDE: Final = 0.3
"""A median or a ratio whose rounds differ by more than this share of it tells nothing."""
WIDE_AT_THE_END: Final = 1.0
"""The same for a percentile at the end of the scale, which single samples decide."""
FEW_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure is held against, such as `<= 50`. `budget`: the row of `budgets.py` that it answers."""

    sense: Literal["<=", ">=", "=="]
    bound: float
    budget: str = ""

    def is_met_by(self, value: float) -> bool:
        """Whether the figure is good enough."""
        if self.sense == "==":
            return value == self.bound
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `beside` names what was measured beside it in the same run; `ratio` is ours over theirs.

    `spread` is the distance of the quartiles of its rounds over the value, `wide` how much of that is too much.
    `is_of_ratio`: the goal is held against the ratio.
    """

    name: str
    value: float
    unit: str
    goal: Goal | None = None
    beside: str = ""
    ratio: float | None = None
    n: int | None = None
    spread: float | None = None
    ratio_spread: float | None = None
    wide: float = WIDE
    is_of_ratio: bool = False

    @property
    def is_told(self) -> bool:
        """False where the rounds differ so much that the value would mislead."""
        return self.spread is None or self.spread <= self.wide

    @property
    def is_ratio_told(self) -> bool:
        """The same of the ratio."""
        return self.ratio is not None and (self.ratio_spread is None or self.ratio_spread <= self.wide)

    @property
    def judged(self) -> float | None:
        """What the goal is held against; None where that is worthless."""
        if self.is_of_ratio:
            return self.ratio if self.is_ratio_told else None
        return self.value if self.is_told else None

    @property
    def is_missed(self) -> bool:
        """True when there is a goal and the figure does not reach it, or cannot be told."""
        return self.goal is not None and (self.judged is None or not self.goal.is_met_by(self.judged))

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, `too noisy`, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        if self.judged is None:
            return "too noisy"
        return "MISSED" if self.is_missed else "ok"


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
        n = len(samples)
        self.figures += (
            Figure(f"{name}, p50", p50(samples), unit, n=n),
            Figure(f"{name}, p99", p99(samples), unit, p99_goal, n=n),
            Figure(f"{name}, max", max(samples), unit, max_goal, n=n),
        )

    def add_rounds(
        self,
        name: str,
        rounds: Rounds,
        unit: str,
        *,
        of: Callable[[Sequence[float]], float] | None = None,
        goal: Goal | None = None,
        beside: tuple[str, Rounds] | None = None,
        is_of_ratio: bool = False,
        wide: float = WIDE,
    ) -> Figure:
        """Add one figure over all samples of the rounds, with its spread from round to round; returns it.

        :param of: what the figure is of samples; their median when None
        :param beside: a name and the rounds that were measured in turn with these, as many
        :param is_of_ratio: the goal is one for the ratio
        """
        of = of or p50
        self.samples[f"{name} {unit}"] = [sample for one in rounds for sample in one]
        figure = figure_of(name, rounds, unit, of=of, wide=wide)
        if beside is not None:
            other_name, other = beside
            self.samples[f"{name} {unit}: {other_name}"] = [sample for one in other for sample in one]
            figure = _with_ratio(figure, rounds, other_name, other, of)
        figure = replace(figure, goal=goal, is_of_ratio=is_of_ratio)
        self.figures.append(figure)
        return figure


def figure_of(
    name: str, rounds: Rounds, unit: str, *, of: Callable[[Sequence[float]], float], wide: float = WIDE
) -> Figure:
    """The figure over all samples, with the spread of the same figure from round to round."""
    samples = [sample for one in rounds for sample in one]
    value = of(samples)
    spread = spread_of([of(one) for one in rounds if one], value)
    return Figure(name, value, unit, n=len(samples), spread=spread, wide=wide)


def spread_of(values: Sequence[float], middle: float) -> float | None:
    """The distance of the quartiles over the middle; None of too few values, or of a middle of zero."""
    if len(values) < FEW_ROUNDS or not middle:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / abs(middle)


def _with_ratio(
    figure: Figure, ours: Rounds, name: str, theirs: Rounds, of: Callable[[Sequence[float]], float]
) -> Figure:
    """With the median of the ratios, each of one round: what slows the machine for a while slows both in it."""
    ratios = [of(mine) / of(other) for mine, other in zip(ours, theirs, strict=True) if mine and other]
    other_value = of([sample for one in theirs for sample in one])
    ratio = statistics.median(ratios)
    beside = f"{name} ({number(other_value)} {figure.unit})".replace(" )", ")")
    return replace(figure, beside=beside, ratio=ratio, ratio_spread=spread_of(ratios, ratio))


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def p50(samples: Sequence[float]) -> float:
    """The median, by nearest rank."""
    return percentile(samples, 50)


def p99(samples: Sequence[float]) -> float:
    """What 99 of 100 do not exceed."""
    return percentile(samples, 99)


def cells(figure: Figure) -> tuple[str, ...]:
    """One row of a table, in the order of `COLUMNS`."""
    shown = number(figure.value) if figure.is_told else "not told"
    spread = "" if figure.spread is None else f"{figure.spread:.0%}"
    if figure.ratio is None:
        beside = figure.beside
    elif figure.is_ratio_told:
        beside = f"{figure.ratio:.2f} x {figure.beside}"
    else:
        beside = f"ratio not told (spread {figure.ratio_spread:.0%}), {figure.beside}"
    n = "" if figure.n is None else str(figure.n)
    return (
        figure.name,
        shown,
        figure.unit,
        n,
        spread,
        f"{figure.goal or ''}{' x' if figure.is_of_ratio and figure.goal else ''}",
        figure.verdict,
        beside,
    )


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns; a missed goal is marked, a worthless figure not shown."""
    rows = [COLUMNS, *(cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 3, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def number(value: float) -> str:
    """Three digits that count; whole numbers whole."""
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
