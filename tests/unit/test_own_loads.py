"""Guards "a load that never ends": the daemon's own loads are known to the diagnosis, and a cure can end each."""

from __future__ import annotations

import pytest

from arasul_supervisor.healing.aftermath.own_loads import OwnLoads


def test_where_nothing_is_loaded_there_is_none() -> None:
    assert OwnLoads().current is None


def test_a_load_is_known_until_it_is_over() -> None:
    loads = OwnLoads()

    with loads.under_way("a", print):
        during = loads.current

    assert (during, loads.current) == ("a", None)


def test_a_load_that_fails_is_over_too() -> None:
    loads = OwnLoads()

    with pytest.raises(RuntimeError), loads.under_way("a", print):
        raise RuntimeError("no model")

    assert loads.current is None


def test_of_several_the_one_that_has_been_loading_longest_is_told() -> None:
    loads = OwnLoads()

    with loads.under_way("a", print), loads.under_way("b", print):
        assert loads.current == "a"


def test_the_same_model_loaded_twice_is_under_way_until_the_second_is_over() -> None:
    loads = OwnLoads()

    with loads.under_way("a", print):
        with loads.under_way("a", print):
            pass

        assert loads.current == "a"


def test_each_load_is_ended_with_the_reason() -> None:
    loads = OwnLoads()
    first: list[str] = []
    second: list[str] = []

    with loads.under_way("a", first.append), loads.under_way("b", second.append):
        loads.end_all("its load did not move")

    assert (first, second) == (["its load did not move"], ["its load did not move"])


def test_a_load_that_is_over_is_not_ended() -> None:
    loads = OwnLoads()
    reasons: list[str] = []
    with loads.under_way("a", reasons.append):
        pass

    loads.end_all("its load did not move")

    assert reasons == []
