"""Guards facts/gpu.md §7: what several sources say of one GPU is one GPU, and none condemns what it cannot know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arasul_supervisor.telemetry.board_watch import BoardWatch
from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading, SourceReport
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_view import GpuView, flat_figures, gpu_entries, own_entries, view_gpus

ORIN = GpuReading(
    0, "sysfs", node="17000000.gpu", has_load_file=True, utilization_percent=50.0, is_unified=True
)
THOR = replace(ORIN, node="gpu-gpc-0", has_load_file=False, utilization_percent=None)
STUB = GpuReading(0, name="Orin (nvgpu)", uuid="GPU-o", is_unified=True)
LIBRARY = GpuReading(0, name="NVIDIA Thor", uuid="GPU-t", utilization_percent=87.0, is_unified=True)
CARD = GpuReading(1, name="NVIDIA RTX A6000", uuid="GPU-a", utilization_percent=10.0)
JTOP = GpuReading(
    0, "jtop", utilization_percent=99.0, processes=(GpuProcess(7, 100),), memory_by_processes_bytes=100
)


def report(source: str, *readings: GpuReading, state: str = "ok", **more: Any) -> SourceReport:  # Any: fields
    return SourceReport(
        source,
        state,
        f"{source} is {state}.",
        100.0,
        **{"has_answered": True, "taken_mono": 100.0, "readings": readings, **more},
    )


def view(*reports: SourceReport, now_mono: float = 101.0) -> GpuView:
    return view_gpus(reports, now_mono=now_mono, stale_after_s=15.0)


def entries(*reports: SourceReport, now_mono: float = 101.0) -> list[Any]:  # Any: JSON
    return gpu_entries(view(*reports, now_mono=now_mono), None)


def check(*reports: SourceReport, now_mono: float = 101.0) -> str:
    return check_gpus(view(*reports, now_mono=now_mono), BoardWatch()).status


def test_a_jetsons_gpu_is_one_whoever_tells_of_it() -> None:
    (gpu,) = entries(report("nvml", STUB), report("tegra", ORIN), report("jtop", JTOP))

    assert (gpu["id"], gpu["name"], gpu["utilization_percent"]) == ("17000000.gpu", "Orin (nvgpu)", 50.0)
    assert gpu["processes"] == [{"pid": 7, "memory_bytes": 100}]
    assert (gpu["sources"]["utilization_percent"], gpu["sources"]["processes"]) == ("sysfs", "jtop")


def test_thor_is_named_by_its_uuid_and_loaded_by_nvml() -> None:
    (gpu,) = entries(report("nvml", LIBRARY), report("tegra", THOR))

    assert (gpu["id"], gpu["utilization_percent"], gpu["sources"]["utilization_percent"]) == (
        "GPU-t",
        87.0,
        "nvml",
    )


def test_thor_without_the_library_is_named_by_its_node() -> None:
    (gpu,) = entries(report("nvml", state="none"), report("tegra", THOR))

    assert (gpu["id"], gpu["state"], gpu["utilization_percent"]) == ("gpu-gpc-0", "ok", None)


def test_a_card_in_a_jetson_stands_beside_its_own_gpu() -> None:
    found = entries(report("nvml", STUB, CARD), report("tegra", ORIN))
    without_stub = entries(report("nvml", CARD), report("tegra", ORIN))

    assert [(gpu["index"], gpu["id"], gpu["kind"]) for gpu in found] == [
        (0, "17000000.gpu", "integrated"),
        (1, "GPU-a", "discrete"),
    ]
    assert [(gpu["index"], gpu["id"]) for gpu in without_stub] == [(1, "GPU-a"), (2, "17000000.gpu")]


@pytest.mark.parametrize("state", ["no_driver", "driver_mismatch", "no_access", "stuck", "lost"])
def test_a_sick_stub_library_does_not_condemn_an_orin(state: str) -> None:
    sources = (report("nvml", state=state), report("tegra", ORIN))

    assert ([gpu["state"] for gpu in entries(*sources)], check(*sources)) == (["ok"], "ok")


@pytest.mark.parametrize(
    ("state", "status"), [("driver_mismatch", "warn"), ("lost", "fail"), ("no_access", "warn")]
)
def test_a_sick_library_condemns_a_thor(state: str, status: str) -> None:
    sources = (report("nvml", state=state), report("tegra", THOR))

    assert ([gpu["state"] for gpu in entries(*sources)], check(*sources)) == ([state], status)


@pytest.mark.parametrize("state", ["none", "stuck"])
def test_jtop_condemns_nothing(state: str) -> None:
    assert check(report("nvml", STUB), report("tegra", ORIN), report("jtop", state=state)) == "ok"


@pytest.mark.parametrize(
    ("changes", "now_mono"), [({"state": "none"}, 101.0), ({}, 116.0)], ids=["dead", "stale"]
)
def test_figures_of_a_jtop_that_lies_dead_are_not_shown(changes: dict[str, Any], now_mono: float) -> None:
    fresh: dict[str, Any] = {"taken_mono": now_mono - 1}
    (gpu,) = entries(
        report("nvml", STUB, **fresh),
        report("tegra", ORIN, **fresh),
        report("jtop", JTOP, **changes),
        now_mono=now_mono,
    )

    assert (gpu["processes"], gpu["stale"], gpu["utilization_percent"]) == (None, False, 50.0)


def test_one_source_that_fell_silent_takes_only_its_own_figures() -> None:
    (gpu,) = entries(
        report("nvml", LIBRARY, taken_mono=100.0),
        report("tegra", replace(THOR, clock_mhz=315.0), taken_mono=115.0),
        now_mono=116.0,
    )

    assert (gpu["utilization_percent"], gpu["clock_mhz"], gpu["name"]) == (None, 315.0, "NVIDIA Thor")
    assert (gpu["stale"], gpu["age_s"]) == (False, 1.0)


def test_firmware_that_hangs_for_a_minute_is_a_sick_gpu() -> None:
    stuck = report("tegra", ORIN, state="stuck")

    assert [check(stuck, now_mono=now) for now in (150.0, 161.0)] == ["unknown", "fail"]


def test_firmware_that_hangs_is_a_warning_where_nvml_answers_for_the_gpu() -> None:
    well, stuck = report("nvml", LIBRARY, taken_mono=150.0), report("tegra", THOR, state="stuck")

    assert [check(well, stuck, now_mono=now) for now in (150.0, 161.0)] == ["unknown", "warn"]
    assert entries(well, stuck, now_mono=161.0)[0]["state"] == "ok"


@pytest.mark.parametrize(
    ("nvml", "tegra"),
    [
        (report("nvml", LIBRARY, taken_mono=100.0), report("tegra", THOR, taken_mono=999.0)),
        (report("nvml", STUB, taken_mono=999.0), report("tegra", ORIN, taken_mono=100.0)),
    ],
    ids=["NVML of a Thor", "the files of an Orin"],
)
def test_a_gpu_whose_main_source_fell_silent_is_not_called_well(
    nvml: SourceReport, tegra: SourceReport
) -> None:
    assert check(nvml, tegra, now_mono=1000.0) == "warn"


def test_figures_that_stay_away_are_unknown_at_first_and_a_warning_after_a_minute() -> None:
    silent = report("nvml", CARD, taken_mono=100.0)

    assert [check(silent, now_mono=now) for now in (115.0, 116.0, 160.0, 161.0)] == [
        "ok",
        "unknown",
        "unknown",
        "warn",
    ]


def test_a_card_that_was_never_ours_changes_neither_the_verdict_nor_the_flat_figures() -> None:
    foreign = GpuReading(1, state="no_access", refusals={"handle": 4})
    ours = replace(CARD, index=0)
    seen = view(report("nvml", ours, foreign))

    flat = flat_figures(own_entries(seen, gpu_entries(seen, None)))

    assert (check(report("nvml", ours, foreign)), flat["gpu_utilization"]) == ("ok", 10.0)
    assert check(report("nvml", foreign)) == "warn"  # when there is no other
    assert check(report("nvml", ours, replace(foreign, has_worked=True))) == "fail"


def test_a_source_without_access_shows_no_figures_at_once() -> None:
    (gpu,) = entries(report("nvml", CARD, state="no_access", has_worked=True))

    assert (gpu["state"], gpu["name"], gpu["utilization_percent"]) == ("no_access", CARD.name, None)


def test_a_thor_is_well_without_its_boards_files() -> None:
    nvml, tegra = report("nvml", LIBRARY, taken_mono=999.0), report("tegra", THOR, taken_mono=100.0)

    assert check(nvml, tegra, now_mono=1000.0) == "ok"


def test_a_stub_library_that_refuses_does_not_condemn_a_board_that_was_not_looked_at_yet() -> None:
    not_yet = report("tegra", has_answered=False, taken_mono=None)

    assert check(report("nvml", state="lost"), not_yet) == "unknown"


def test_a_board_whose_gpu_is_gated_is_well() -> None:
    assert check(report("nvml", STUB), report("tegra", replace(ORIN, state="gated"))) == "ok"


def test_the_boards_warnings_are_told_only_where_there_is_a_gpu() -> None:
    watch = BoardWatch(alarms="The current of VDD_IN is over its critical limit: check the power supply.")
    with_gpu, without = view(report("tegra", ORIN)), view(report("tegra", state="none"))

    assert check_gpus(with_gpu, watch).status == "warn"
    assert check_gpus(without, watch).status == "skipped"
