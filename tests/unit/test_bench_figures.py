"""Guards the arithmetic behind the tables of `make bench`."""

from __future__ import annotations

import pytest

from arasul_supervisor.logs.meaning.reading import Reading
from bench.figures import Figure, Goal, Outcome, percentile, table
from bench.logs.rule_lines import RULE_LINES, sowing_text, sown_outcomes
from bench.rounds import alternate


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 50, id="half of 100 samples do not exceed the 50th"),
        pytest.param(99, 99, id="99 of 100"),
        pytest.param(100, 100, id="all"),
        pytest.param(0, 1, id="none: the least"),
    ],
)
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_missed_goal_is_marked_and_a_ratio_names_its_other() -> None:
    figures = [Figure("delay", 60.0, "ms", Goal("<=", 50)), Figure("speed", 5.0, "MB/s", None, "theirs", 0.5)]
    _, missed, beside = table(figures).splitlines()
    assert missed.split() == ["delay", "60", "ms", "<=", "50", "MISSED"]
    assert beside.split() == ["speed", "5", "MB/s", "0.50", "x", "theirs"]


def test_a_figure_whose_rounds_differ_too_much_is_not_shown_and_misses_its_goal() -> None:
    outcome = Outcome()
    figure = outcome.add_rounds("delay", [[1.0], [2.0], [5.0], [9.0]], "ms", goal=Goal("<=", 50))
    assert figure.is_missed
    assert table([figure]).splitlines()[1].split()[1:3] == ["not", "told"]


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    slow_later = [[1.0], [1.0], [10.0], [10.0], [10.0]], [[2.0], [2.0], [20.0], [20.0], [20.0]]
    figure = Outcome().add_rounds("delay", slow_later[0], "ms", beside=("theirs", slow_later[1]))
    assert (figure.ratio, figure.ratio_spread) == (0.5, 0.0)


def test_a_goal_may_be_one_for_the_ratio() -> None:
    goal = Goal("<=", 1.05)
    figure = Outcome().add_rounds(
        "outage", [[60.0]], "ms", goal=goal, beside=("bare", [[50.0]]), is_of_ratio=True
    )
    assert figure.verdict == "MISSED"


def test_contenders_take_turns_and_the_warm_up_is_thrown_away() -> None:
    asked: list[str] = []

    def take(name: str) -> list[float]:
        asked.append(name)
        return [float(len(asked))]

    taken = alternate({"a": lambda: take("a"), "b": lambda: take("b")}, rounds=2)
    assert asked == ["b", "a", "a", "b", "b", "a"]
    assert taken == {"a": [[3.0], [6.0]], "b": [[4.0], [5.0]]}


def test_samples_that_never_came_are_said_and_make_no_figure() -> None:
    outcome = Outcome()
    outcome.add_percentiles("delay", [], "ms")
    assert outcome.figures == []
    assert outcome.remarks == ["delay: nothing was seen."]


def test_every_line_that_is_sown_means_what_the_bench_counts_it_as() -> None:
    reading = Reading(lambda _generation, _finding: None)
    reading.begin(1)
    shown = reading.read(1, sowing_text().encode(), at=0.0, mono=0.0).matches
    said = [shown[index].outcome for index in sorted(shown)]
    assert said == [outcome for outcome, _ in RULE_LINES]


def test_lines_are_sown_in_turn() -> None:
    counts = sown_outcomes(len(RULE_LINES) + 1)
    assert counts[RULE_LINES[0][0]] == 2
    assert counts.total() == len(RULE_LINES) + 1
