"""Guards the comparison that keeps a later change from making the daemon slow."""

from __future__ import annotations

import pytest

from bench import bars
from bench.bars import Bar, is_missed, ratios_of, read_bars
from bench.figures import Figure, Outcome

BAR = Bar("launch", "to the engine", "<=", seen=1.0, room=1.5)


def outcome(ratio: float, *, spread: float = 0.0) -> Outcome:
    """What a bench gives whose one figure has that ratio."""
    return Outcome([Figure(BAR.figure, 5.0, "ms", None, "theirs", ratio, ratio_spread=spread)])


@pytest.mark.parametrize(
    ("ratio", "is_expected"),
    [
        pytest.param(1.5, False, id="at the bar"),
        pytest.param(1.6, True, id="worse"),
        pytest.param(None, False, id="too noisy to be told"),
    ],
)
def test_a_bar_is_missed_by_a_ratio_that_is_worse(ratio: float | None, is_expected: bool) -> None:
    assert is_missed(BAR, {BAR.figure: ratio}) is is_expected


def test_a_bar_whose_figure_is_gone_is_missed() -> None:
    assert is_missed(BAR, ratios_of(Outcome(), [BAR]))


def test_a_figure_that_cannot_be_measured_here_misses_no_bar() -> None:
    assert not is_missed(BAR, ratios_of(Outcome(remarks=["NOT MEASURED: no compiler"]), [BAR]))


def test_a_ratio_whose_rounds_differ_too_much_is_not_told() -> None:
    assert ratios_of(outcome(2.0, spread=0.9), [BAR]) == {BAR.figure: None}


def run(monkeypatch: pytest.MonkeyPatch, *ratios: float) -> int:
    """The exit status when the runs of the bench give these ratios, one after the other."""
    left = list(ratios)
    monkeypatch.setattr(bars, "read_bars", lambda: [BAR])
    monkeypatch.setattr(bars, "measure_of", lambda _name: lambda *, is_quick: outcome(left.pop(0)))
    return bars.main([])


def test_what_is_slower_each_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 2.0, 1.9, 1.8) == 1


def test_what_was_disturbed_once_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 2.0, 1.2) == 0


def test_each_recorded_bar_leaves_room_for_what_was_seen() -> None:
    recorded = read_bars()
    assert recorded
    assert all(bar.is_met_by(bar.seen) and bar.room > 1 for bar in recorded)
