"""Guards facts/gpu.md §7.3: what of a board is worth a warning, and only once it has lasted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arasul_supervisor.telemetry.board import BoardFigures
from arasul_supervisor.telemetry.board_watch import BoardWatch, watch_board
from arasul_supervisor.telemetry.host import HostMemory
from arasul_supervisor.telemetry.power import Power, Rail
from arasul_supervisor.telemetry.thermal import Limits

GIB = 1 << 30
ORIN, THOR = Limits(99.0, 104.5), Limits(None, 114.5)
BOARD = BoardFigures()


def memory(available_bytes: int, *, total_bytes: int = 64 * GIB) -> HostMemory:
    return HostMemory(total_bytes, available_bytes, 0, 0, None, None, None)


def warnings(
    *boards: BoardFigures | None, step_s: float = 5.0, **more: Any
) -> tuple[str, ...]:  # Any: arguments
    """What is told after a look at each of them, `step_s` apart."""
    watch, now_mono = BoardWatch(), 1000.0
    arguments: dict[str, Any] = {"memory": None, "is_unified": False, **more}
    for board in boards:
        now_mono += step_s
        watch = watch_board(watch, board, now_mono=now_mono, **arguments)
    return watch.warnings(now_mono)


def zone(celsius: float | None, limits: Limits = ORIN) -> BoardFigures:
    return replace(BOARD, temperatures_c={"tj": celsius, "cv0": None}, temperature_limits_c={"tj": limits})


@pytest.mark.parametrize(
    ("board", "is_told"),
    [
        (zone(94.9), False),
        (zone(95.1), True),
        (zone(99.5), True),
        (zone(104.4, THOR), False),
        (zone(105.0, THOR), True),
        (zone(None), False),
        (replace(BOARD, temperatures_c={"acpitz": 300.0}), False),
    ],
    ids=["below", "near", "above", "Thor below", "Thor near", "silent", "no limit of its own"],
)
def test_a_zone_near_its_own_limit_is_told_after_half_a_minute(board: BoardFigures, is_told: bool) -> None:
    assert bool(warnings(*[board] * 7)) is is_told
    assert warnings(*[board] * 6) == ()


def test_a_zone_that_cooled_down_in_between_starts_anew() -> None:
    assert warnings(*[zone(98.0)] * 5, zone(80.0), *[zone(98.0)] * 5) == ()


def test_a_look_that_told_nothing_starts_the_clock_anew() -> None:
    assert warnings(*[zone(98.0)] * 5, None, *[zone(98.0)] * 5) == ()


@pytest.mark.parametrize(
    ("available_bytes", "total_bytes", "is_unified", "is_told"),
    [
        (2 * GIB, 64 * GIB, True, False),
        (int(1.9 * GIB), 64 * GIB, True, True),  # 3 % of 64 GiB are 1.92 GiB
        (GIB - 1, 8 * GIB, True, True),
        (GIB, 8 * GIB, True, False),
        (GIB - 1, 8 * GIB, False, False),
    ],
)
def test_shared_memory_that_stays_low_is_told(
    available_bytes: int, total_bytes: int, is_unified: bool, is_told: bool
) -> None:
    low = memory(available_bytes, total_bytes=total_bytes)

    told = warnings(*[BOARD] * 7, memory=low, is_unified=is_unified)

    assert bool(told) is is_told
    assert warnings(*[BOARD] * 6, memory=low, is_unified=is_unified) == ()


def test_an_alert_of_another_domain_is_told_after_ten_seconds() -> None:
    board = replace(BOARD, throttle_alerts={"cpu": 1, "gpu": 1, "soc0": None})

    assert warnings(board, board) == ()
    assert warnings(board, board, board) == (
        "The board slows itself down (throttle alert of cpu): cool it better.",
    )


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ({"oc1": 0}, {"oc1": 1}, True),
        ({"oc2": 5}, {"oc2": 9}, True),
        ({"oc3": 5}, {"oc3": 9000}, False),
        ({"oc1": 5}, {"oc1": 5}, False),
        ({"oc1": 5}, {"oc1": 0}, False),
        ({"oc1": None}, {"oc1": 5}, False),
        (None, {"oc1": 5}, False),
    ],
    ids=["under-voltage", "average", "instantaneous", "none", "a reboot", "unread", "the first look"],
)
def test_over_current_that_grows_is_told_but_for_what_is_normal(
    before: dict[str, int | None] | None, after: dict[str, int | None], is_told: bool
) -> None:
    boards = [replace(BOARD, overcurrent=counters) for counters in (before, after)]

    assert bool(warnings(*boards)) is is_told


def test_over_current_is_told_for_a_minute() -> None:
    boards = [replace(BOARD, overcurrent={"oc1": count}) for count in (0, 1, 1)]

    assert (len(warnings(*boards, step_s=59.0)), len(warnings(*boards, step_s=61.0))) == (1, 0)


def test_looks_without_figures_neither_make_old_events_new_nor_hide_new_ones() -> None:
    def counting(count: int | None) -> BoardFigures:
        return replace(BOARD, overcurrent={"oc1": count})

    assert warnings(counting(3), None, counting(3)) == ()
    assert len(warnings(counting(3), None, counting(None), counting(4))) == 1
    assert len(warnings(counting(3), counting(4), None)) == 1


def test_shared_memory_that_stays_low_is_told_where_the_board_is_silent() -> None:
    assert len(warnings(*[None] * 7, memory=memory(GIB // 2), is_unified=True)) == 1


def test_a_rail_over_its_critical_limit_is_told_at_once() -> None:
    rail = Rail("VDD_IN", 5.0, 5.1, 25.5, None, 5.0, True, "hwmon1")

    assert warnings(replace(BOARD, power=Power((rail,)))) == (
        "The current of VDD_IN is over its critical limit: check the power supply.",
    )
