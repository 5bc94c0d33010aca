"""The pure parts of the benches of growth: what is compared with what, what counts as growth, how a store is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store.listing import read_store
from arasul_supervisor.model_store.usage import disk_usage
from bench.figures import Outcome
from bench.growth.growth import add_growth, base_of, linear
from bench.growth.models import write_store
from bench.growth.uptime import growth_of
from bench.restarts.real_engine import Comeback

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("sizes", "base"),
    [
        pytest.param((1, 10, 100, 1000), 10, id="the second of four"),
        pytest.param((10, 1000), 10, id="the first of two"),
    ],
)
def test_a_cost_is_compared_with_that_at_a_size_where_it_is_not_fixed_costs_alone(
    sizes: tuple[int, ...], base: int
) -> None:
    assert base_of(sizes) == base


def test_a_hundred_times_as_many_may_cost_a_hundred_and_fifty_times_as_much() -> None:
    goal = linear((1, 10, 100, 1000))
    assert goal.is_met_by(149.0)
    assert not goal.is_met_by(10_000.0)  # 100², a square


def test_the_goal_is_for_the_ratio_at_the_largest_size() -> None:
    outcome = Outcome()
    square = {size: [[float(size * size)]] * 4 for size in (1, 10, 100, 1000)}
    add_growth(outcome, "cost", square, "ms", "models", goal=linear(list(square)))
    goals = [figure.name for figure in outcome.figures if figure.goal]
    missed = [figure.name for figure in outcome.figures if figure.is_missed]
    assert goals == missed == ["cost, 1,000 models"]


def test_what_fills_up_in_the_first_days_is_no_growth() -> None:
    filled_up = [40.0, 44.0, *[45.0] * 8]
    creeping = [40.0 + day / 4 for day in range(10)]  # medians of two days: 42.125 − 41.125
    assert (growth_of(filled_up), growth_of(creeping)) == (0.0, 1.0)


def test_each_model_of_the_store_has_its_own_blob(tmp_path: Path) -> None:
    listing = read_store(write_store(tmp_path / "store", 3))
    assert [model.name for model in listing.models] == [f"model-0000{n}:latest" for n in range(3)]
    assert [usage.shared_bytes for usage in disk_usage(listing).values()] == [0, 0, 0]


def test_the_parts_of_an_outage_are_the_whole() -> None:
    comeback = Comeback(began_ns=1_000_000, gone_ns=3_000_000, connected_ns=9_000_000, answered_ns=56_000_000)
    parts = (comeback.until_gone_ms, comeback.until_connect_ms, comeback.until_answer_ms)
    assert parts == (2.0, 6.0, 47.0)
    assert comeback.outage_ms == sum(parts)
