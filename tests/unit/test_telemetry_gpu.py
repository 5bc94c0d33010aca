"""Guards facts/gpu.md §5, §7: which source wins, what is disbelieved or kept, and the word of the health point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arasul_supervisor.telemetry.board_watch import BoardWatch
from arasul_supervisor.telemetry.gpu.cards import Card
from arasul_supervisor.telemetry.gpu.carry_over import carry_over
from arasul_supervisor.telemetry.gpu.merge import WINNERS, gpu_entry, merge
from arasul_supervisor.telemetry.gpu.none import NoGpu
from arasul_supervisor.telemetry.gpu.nvml_lines import readings_of, reasons_of
from arasul_supervisor.telemetry.gpu.readings import GpuReading, SourceReport
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_view import flat_figures, free_gpu_bytes, gpu_entries, view_gpus
from arasul_supervisor.telemetry.host import HostMemory

HOST = HostMemory(1000, 400, 0, 0, None, None, None)
CARD = GpuReading(
    0,
    name="A10",
    uuid="GPU-a",
    utilization_percent=10.0,
    temperature_c=50.0,
    memory_total_bytes=200,
    memory_used_bytes=100,
    memory_free_bytes=90,
)


def report(
    *readings: GpuReading, state: str = "ok", **more: Any
) -> SourceReport:  # Any: fields of the report
    return SourceReport(
        "nvml",
        state,
        "a sentence",
        100.0,
        **{"has_answered": True, "taken_mono": 100.0, "readings": readings, **more},
    )


def entries(*readings: GpuReading, host: HostMemory | None = HOST) -> list[dict[str, object]]:
    return gpu_entries(view_gpus([report(*readings)], now_mono=101.0, stale_after_s=15.0), host)


def entry_of(reading: GpuReading) -> dict[str, object]:
    return gpu_entry(Card(0, {reading.source: reading}, 0.0, is_stale=False), HOST)


def status_at(now_mono: float, *reports: SourceReport, watch: BoardWatch | None = None) -> str:
    view = view_gpus(reports, now_mono=now_mono, stale_after_s=15.0)
    return check_gpus(view, watch or BoardWatch()).status


def line(**gpu: object) -> dict[str, object]:
    return {"driver": "1.0", "gpus": [{"index": 0, "state": "ok", "figures": {}, "codes": {}, **gpu}]}


def test_the_first_source_of_the_row_that_has_a_value_wins() -> None:
    values, sources = merge(
        {"nvml": replace(CARD, temperature_c=1.0), "sysfs": GpuReading(0, temperature_c=2.0)}
    )

    assert (values["temperature_c"], sources["temperature_c"]) == (2.0, "sysfs")
    assert (values["utilization_percent"], sources["utilization_percent"]) == (10.0, "nvml")
    assert (values["power_watts"], "power_watts" in sources) == (None, False)


def test_every_figure_of_the_table_is_one_of_the_reading() -> None:
    assert set(WINNERS) <= set(GpuReading.__dataclass_fields__)


@pytest.mark.parametrize(
    ("figures", "codes"),
    [
        ({"name": "NVIDIA GB10"}, {"memory": 3}),
        ({"name": "some new board"}, {"memory": 3}),
        ({"name": "some new board", "memory": {"total": 0, "used": 0, "free": 0}, "temperature_c": 40}, {}),
        ({"name": "NVIDIA Thor", "memory": {"total": 7, "used": 7, "free": 0}}, {}),
    ],
    ids=["GB10", "not supported", "no frame buffer", "a total that is not to be believed"],
)
def test_memory_that_is_the_hosts_comes_from_meminfo(figures: object, codes: object) -> None:
    (reading,) = readings_of(line(figures=figures, codes=codes))

    entry = entry_of(reading)

    assert (entry["kind"], entry["memory_kind"]) == ("integrated", "unified")
    assert [entry[f"memory_{what}_bytes"] for what in ("total", "used", "free", "reserved")] == [
        1000,
        600,
        400,
        None,
    ]
    assert entry["memory_used_percent"] == 60.0
    assert isinstance(entry["sources"], dict)
    assert entry["sources"]["memory_used_percent"] == "procfs"


def test_memory_that_is_forbidden_is_not_taken_for_the_hosts() -> None:
    (reading,) = readings_of(line(figures={"name": "A10"}, codes={"memory": 4}))

    entry = entry_of(reading)

    assert (entry["memory_kind"], entry["memory_used_bytes"]) == ("dedicated", None)


def test_the_load_that_nvml_tells_of_an_orin_is_not_believed() -> None:
    (reading,) = readings_of(line(figures={"name": "Orin (nvgpu)", "utilization_percent": 0}))

    assert reading.utilization_percent is None


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, ()),
        (0x4, ("sw_power_cap",)),
        (0x48, ("hw_slowdown", "hw_thermal_slowdown")),
        (0x1001, ("gpu_idle", "0x1000")),
    ],
)
def test_event_reasons_are_words_and_an_unknown_bit_is_shown(bits: int, words: tuple[str, ...]) -> None:
    assert reasons_of(bits) == words


@pytest.mark.parametrize(
    ("bits", "is_throttled"), [(0x4, False), (0x1, False), (0x8, True), (0x20, True), (0x80, True)]
)
def test_a_power_cap_is_no_throttling(bits: int, is_throttled: bool) -> None:
    (reading,) = readings_of(line(figures={"event_reasons": bits}))

    assert reading.throttled is is_throttled


def test_a_process_of_unknown_size_makes_the_sum_unknown() -> None:
    (reading,) = readings_of(line(figures={"processes": [[1, 5], [2, None]]}))

    assert (reading.memory_by_processes_bytes, reading.processes is not None) == (None, True)


def kept(
    former: GpuReading, now: GpuReading, *, now_mono: float = 105.0, taken_mono: float = 100.0
) -> GpuReading:
    (reading,) = carry_over([former], [now], taken_mono=taken_mono, now_mono=now_mono, keep_s=15.0)
    return reading


def test_a_figure_that_fails_in_passing_keeps_its_value_until_it_is_old() -> None:
    failed = replace(CARD, temperature_c=None, refusals={"temperature_c": 10})

    soon = kept(CARD, failed)
    later = kept(soon, failed, now_mono=114.0, taken_mono=105.0)
    too_late = kept(later, failed, now_mono=116.0, taken_mono=114.0)

    assert (soon.temperature_c, later.temperature_c, too_late.temperature_c) == (50.0, 50.0, None)


def test_a_figure_that_is_refused_for_good_is_null_at_once() -> None:
    assert kept(CARD, replace(CARD, temperature_c=None, refusals={"temperature_c": 3})).temperature_c is None


def test_a_figure_that_is_kept_is_shown_with_its_own_age() -> None:
    soon = kept(CARD, replace(CARD, temperature_c=None, refusals={"temperature_c": 10}))
    shown = gpu_entries(view_gpus([report(soon, taken_mono=105.0)], now_mono=106.0, stale_after_s=15.0), HOST)

    assert (shown[0]["temperature_c"], shown[0]["age_s"]) == (50.0, 1.0)
    assert shown[0]["kept_age_s"] == {"temperature_c": 6.0}


def test_a_card_that_cannot_be_asked_in_passing_keeps_all_its_figures() -> None:
    seen = kept(CARD, GpuReading(0, refusals={"handle": 10}))

    assert (seen.name, seen.temperature_c, seen.memory_used_bytes) == ("A10", 50.0, 100)
    assert set(seen.kept_since_mono.values()) == {100.0}


def test_a_kept_figure_is_not_shown_beyond_its_age_by_a_source_that_fell_silent() -> None:
    soon = kept(CARD, replace(CARD, temperature_c=None, refusals={"temperature_c": 10}))

    (shown,) = gpu_entries(
        view_gpus([report(soon, taken_mono=105.0)], now_mono=116.0, stale_after_s=15.0), HOST
    )

    assert (shown["temperature_c"], shown["utilization_percent"], shown["kept_age_s"]) == (None, 10.0, {})


def test_a_part_that_was_not_told_this_time_is_no_lost_gpu() -> None:
    rail, node = GpuReading(0, "hwmon", node="gpu-gpc-0"), GpuReading(0, "sysfs", node="gpu-gpc-0")

    without_rail = carry_over([node, rail], [node], taken_mono=100.0, now_mono=105.0, keep_s=15.0)
    without_node = carry_over([node], [], taken_mono=100.0, now_mono=105.0, keep_s=15.0)

    assert [(reading.source, reading.state) for reading in without_rail] == [("sysfs", "ok")]
    assert [reading.state for reading in without_node] == ["no_driver"]


@pytest.mark.parametrize(
    ("figures", "empty"),
    [
        ({"utilization_percent": 4294967295}, ("utilization_percent",)),
        ({"utilization_percent": 101}, ("utilization_percent",)),
        ({"temperature_c": 500}, ("temperature_c",)),
        ({"power_mw": 4294967295}, ("power_watts",)),
        ({"clock_mhz": 4294967295, "clock_max_mhz": 4294967295}, ("clock_mhz", "clock_max_mhz")),
        ({"fan_percent": 4294967295}, ("fan_percent",)),
        (
            {"memory": {"total": 100, "used": 200, "free": 50, "reserved": 1}},
            ("memory_total_bytes", "memory_used_bytes"),
        ),
    ],
)
def test_what_no_gpu_can_be_is_unknown(figures: dict[str, object], empty: tuple[str, ...]) -> None:
    (reading,) = readings_of(line(figures={"name": "A10", **figures}))

    assert [getattr(reading, figure) for figure in empty] == [None] * len(empty)


def test_a_card_with_memory_of_its_own_never_becomes_one_that_shares_the_hosts() -> None:
    (nothing,) = readings_of(
        line(figures={"name": "A10", "uuid": "GPU-a", "memory": {"total": 0}, "temperature_c": 40})
    )

    entry = entry_of(kept(replace(CARD, has_own_memory=True), nothing))

    assert (entry["kind"], entry["memory_kind"], entry["memory_total_bytes"]) == (
        "discrete",
        "dedicated",
        None,
    )


def test_a_card_in_slices_tells_no_load() -> None:
    (reading,) = readings_of(
        line(figures={"utilization_percent": 0, "mig": {"enabled": True, "instances": []}})
    )

    assert reading.utilization_percent is None


def test_a_card_that_cannot_tell_its_name_any_more_keeps_it() -> None:
    reading = kept(CARD, GpuReading(0, state="lost", refusals={"handle": 15}))

    assert (reading.state, reading.name, reading.uuid, reading.temperature_c) == (
        "lost",
        "A10",
        "GPU-a",
        None,
    )


def test_throttling_is_counted_from_its_first_look() -> None:
    slow = replace(CARD, throttled=True)

    first = kept(CARD, slow, now_mono=105.0)
    second = kept(first, slow, now_mono=110.0)

    assert (first.throttled_since_mono, second.throttled_since_mono) == (105.0, 105.0)
    assert kept(second, replace(CARD, throttled=False)).throttled_since_mono is None


@pytest.mark.parametrize(
    ("second", "load", "used_mib", "celsius"),
    [
        ({"utilization_percent": 90.0, "temperature_c": 40.0, "memory_used_bytes": 3 * 2**20}, 90.0, 3, 50.0),
        ({"utilization_percent": None}, None, 0, 50.0),
        ({"memory_used_bytes": None}, 10.0, None, 50.0),
        ({"temperature_c": None}, 10.0, 0, None),
    ],
    ids=["all known", "one load unknown", "one memory unknown", "one temperature unknown"],
)
def test_flat_figures_stand_for_all_cards_or_for_none(
    second: dict[str, Any], load: float | None, used_mib: int | None, celsius: float | None
) -> None:
    other = replace(CARD, index=1, uuid="GPU-b", **second)

    flat = flat_figures(entries(CARD, other))

    assert flat == {"gpu_utilization": load, "gpu_memory": used_mib, "gpu_temperature": celsius}


def test_free_memory_is_the_sum_and_unknown_as_soon_as_one_is() -> None:
    other = replace(CARD, index=1, uuid="GPU-b", memory_free_bytes=None)

    assert free_gpu_bytes(entries(CARD, replace(other, memory_free_bytes=10))) == 100
    assert free_gpu_bytes(entries(CARD, other)) is None
    assert free_gpu_bytes(entries(GpuReading(0, name="NVIDIA GB10", is_unified=True))) == 400
    assert free_gpu_bytes(entries(CARD, GpuReading(1, name="Orin", uuid="GPU-o", is_unified=True))) == 490


@pytest.mark.parametrize(
    ("what", "now_mono", "status"),
    [
        (report(CARD), 101.0, "ok"),
        (report(replace(CARD, state="gated")), 101.0, "ok"),
        (report(), 101.0, "skipped"),
        (report(state="none"), 101.0, "skipped"),
        (report(CARD, state="none", has_worked=True), 101.0, "warn"),
        (report(state="no_driver"), 101.0, "skipped"),
        (report(has_answered=False, taken_mono=None, keeps_failing=True), 101.0, "warn"),
        (report(CARD, state="no_driver", has_worked=True), 101.0, "warn"),
        (report(has_answered=False, taken_mono=None), 101.0, "unknown"),
        (report(CARD), 116.0, "unknown"),
        (report(CARD, state="stuck"), 150.0, "unknown"),
        (report(CARD, state="stuck"), 161.0, "fail"),
        (report(CARD, state="driver_mismatch"), 101.0, "warn"),
        (report(state="no_access"), 101.0, "warn"),
        (report(CARD, state="no_access", has_worked=True), 101.0, "fail"),
        (report(CARD, replace(CARD, index=1, state="lost")), 101.0, "fail"),
        (report(CARD, replace(CARD, index=1, state="no_access")), 101.0, "warn"),
        (report(CARD, replace(CARD, index=1, state="no_access", has_worked=True)), 101.0, "fail"),
        (report(replace(CARD, throttled=True, throttled_since_mono=95.0)), 101.0, "ok"),
        (report(replace(CARD, throttled=True, throttled_since_mono=90.0)), 101.0, "warn"),
        (report(replace(CARD, state="reset_required")), 999.0, "fail"),
    ],
    ids=[
        *("well", "gated", "no card listed", "no library", "library gone", "no driver"),
        *("its child dies each time", "driver gone"),
        *("first sample not in", "stale", "stuck for 50 s", "stuck for 61 s", "mismatch", "never had access"),
        *("access gone", "one of two lost", "a card that is not ours", "one of two out of reach"),
        *("throttled for 6 s", "throttled for 11 s", "a reset outlasts staleness"),
    ],
)
def test_the_worst_card_speaks_for_the_health_point(what: SourceReport, now_mono: float, status: str) -> None:
    assert status_at(now_mono, what) == status


async def test_a_box_where_gpus_are_switched_off_is_skipped_and_says_by_what() -> None:
    source = NoGpu("none", 100.0)

    view = view_gpus([source.report()], now_mono=101.0, stale_after_s=15.0)
    check = check_gpus(view, BoardWatch())

    assert (check.status, check.detail) == ("skipped", "GPU figures are off: ARASUL_GPU is none.")
    assert source.look_again().done()


@pytest.mark.parametrize(
    ("xid", "status"), [(None, "ok"), (31, "ok"), (79, "fail"), (119, "warn"), (48, "warn"), (13, "ok")]
)
def test_an_error_report_of_the_driver_counts_unless_a_program_is_to_blame(
    xid: int | None, status: str
) -> None:
    reading = replace(CARD, last_xid=xid, last_xid_mono=None if xid is None else 95.0)

    assert status_at(101.0, report(reading)) == status


def test_an_error_report_that_a_card_got_over_is_shown_with_its_age_and_counts_no_more() -> None:
    long_ago = replace(CARD, last_xid=119, last_xid_mono=0.0)

    shown = gpu_entries(
        view_gpus([report(long_ago, taken_mono=700.0)], now_mono=701.0, stale_after_s=15.0), HOST
    )

    assert (shown[0]["last_xid"], shown[0]["last_xid_age_s"]) == (119, 701.0)
    assert status_at(701.0, report(long_ago, taken_mono=700.0)) == "ok"
