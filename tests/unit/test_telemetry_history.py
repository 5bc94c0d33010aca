"""Guards CONTRACT §4 `/api/stats/history`: a bounded row of samples, oldest first, that knows what it did not know."""

from __future__ import annotations

from typing import Any

import pytest

from arasul_supervisor.telemetry.history import History, Sample, sample_of

STATS: dict[str, Any] = {  # Any: JSON
    "gpu_utilization": 42.0,
    "gpu_memory": 17557,
    "gpu_temperature": 51.5,
    "cpu_percent": 3.5,
    "process_memory_mb": 812,
    "timestamp": 1.0,
    "host": {"memory": {"used_percent": 24.5}, "power": {"total_watts": 31.5}},
    "gpus": [],
}


def sample(timestamp: float) -> Sample:
    return Sample(timestamp, None, None, None, None, None, None, None)


def gpu(watts: float | None) -> dict[str, float | None]:
    return {"power_watts": watts}


def test_a_full_ring_loses_its_oldest() -> None:
    history = History(period_s=5.0)

    for number in range(200):
        history.add(sample(number), taken_mono=5.0 * number)

    kept = history.last(1e9, now_mono=1000.0)
    assert len(kept) == 180  # 15 min of 5 s each
    assert (kept[0].timestamp, kept[-1].timestamp) == (20, 199)


def test_the_last_minutes_are_told_oldest_first() -> None:
    history = History(period_s=5.0)
    for number in range(100):
        history.add(sample(number), taken_mono=5.0 * number)

    last = history.last(60.0, now_mono=495.0)

    assert [one.timestamp for one in last] == list(range(87, 100))  # 435 s to 495 s: 13 samples


def test_a_wall_clock_that_steps_back_changes_neither_order_nor_choice() -> None:
    history = History(period_s=5.0)
    history.add(sample(5000.0), taken_mono=10.0)
    history.add(sample(4.0), taken_mono=15.0)

    assert [one.timestamp for one in history.last(60.0, now_mono=20.0)] == [5000.0, 4.0]
    assert [one.timestamp for one in history.last(7.0, now_mono=20.0)] == [4.0]


def test_an_empty_history_has_no_samples() -> None:
    assert History(period_s=5.0).last(900.0, now_mono=5.0) == []


def test_a_sample_has_the_flat_figures_of_that_moment() -> None:
    assert sample_of(STATS, taken_at=7.0) == Sample(7.0, 42.0, 17557, 51.5, 3.5, 812, 24.5, 31.5)


def test_what_was_not_known_is_null_and_not_zero() -> None:
    nothing: dict[str, Any] = {
        **dict.fromkeys(STATS),
        "host": {"memory": None, "power": {"total_watts": None}},
        "gpus": [],
    }

    assert sample_of(nothing, taken_at=7.0) == sample(7.0)


@pytest.mark.parametrize(
    ("gpus", "board_watts", "watts"),
    [
        ([gpu(70.5), gpu(300.25)], None, 370.75),
        ([gpu(70.5)], 31.5, 70.5),
        ([gpu(70.5), gpu(None)], None, None),
        ([gpu(None)], 31.5, 31.5),
        ([], 31.5, 31.5),
        ([], None, None),
        ([gpu(0.0)], None, 0.0),
    ],
    ids=[
        "two cards",
        "a card before the board",
        "one card unknown",
        "a Jetson",
        "no card",
        "nothing",
        "a card that draws nothing",
    ],
)
def test_power_is_that_of_all_cards_else_of_the_board(
    gpus: list[dict[str, float | None]], board_watts: float | None, watts: float | None
) -> None:
    stats = {**STATS, "gpus": gpus, "host": {"memory": None, "power": {"total_watts": board_watts}}}

    assert sample_of(stats, taken_at=7.0).power_watts == watts
