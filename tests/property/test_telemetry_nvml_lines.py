"""Guards facts/gpu.md §3 and §7: whatever NVML's child tells line by line, nothing stale, lost or made up is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from arasul_supervisor.telemetry.board_watch import BoardWatch
from arasul_supervisor.telemetry.gpu.carry_over import carry_over
from arasul_supervisor.telemetry.gpu.nvml_codes import NO_PERMISSION, SURE_BY_ONE_FIGURE
from arasul_supervisor.telemetry.gpu.nvml_lines import cuda_version_of, readings_of
from arasul_supervisor.telemetry.gpu.readings import GpuReading, SourceReport
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_view import (
    flat_figures,
    free_gpu_bytes,
    gpu_entries,
    source_entries,
    view_gpus,
)
from arasul_supervisor.telemetry.host import HostMemory
from tests.engine.telemetry_looks import wrong_types

if TYPE_CHECKING:
    from collections.abc import Mapping

PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking outlasts the test
STALE_AFTER_S: Final = 15.0
KEEP_S: Final = 15.0
HOST: Final = HostMemory(64 * 2**30, 40 * 2**30, 0, 0, None, None, None)
STATES: Final = ("ok", "lost", "reset_required", "no_access", "driver_mismatch", "no_driver")
SOURCE_STATES: Final = (
    "ok",
    "none",
    "no_driver",
    "no_access",
    "driver_mismatch",
    "lost",
    "reset_required",
    "stuck",
)
CODES: Final = (3, 4, 10, 10, 10, 13, 15, 17, 20, 999, -1)
NAMES: Final = ("NVIDIA H100", "Orin (nvgpu)", "NVIDIA Thor", "NVIDIA GB10", "")
WHO: Final = ("index", "id", "name", "uuid", "pci_bus_id", "driver_version", "kind", "state", "memory_kind")
ABOUT: Final = (*WHO, "sources", "age_s", "stale", "kept_age_s", "throttle_reasons")

U32: Final = st.one_of(st.integers(0, 100), st.integers(0, 2**32 - 1))  # what can be, and what can be told
U64: Final = st.integers(0, 2**64 - 1)


def known(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), value)


MEMORY: Final = st.one_of(
    st.just({"total": 80 * 2**30, "used": 20 * 2**30, "free": 60 * 2**30, "reserved": None}),
    st.fixed_dictionaries({"total": U64, "used": U64, "free": U64, "reserved": known(U64)}),
)
UUIDS: Final = st.sampled_from(("GPU-a", "GPU-b", "GPU-c"))
INSTANCE: Final = st.fixed_dictionaries(
    {
        "index": st.integers(0, 6),
        "uuid": known(UUIDS),
        "name": known(st.text(max_size=4)),
        "gpu_instance_id": known(U32),
        "compute_instance_id": known(U32),
        "memory": known(MEMORY),
    }
)
FIGURES: Final = st.fixed_dictionaries(
    {
        "name": known(st.sampled_from(NAMES)),
        "uuid": known(UUIDS),
        "pci_bus_id": known(st.text(max_size=4)),
        "memory": known(MEMORY),
        "temperature_c": known(st.one_of(st.integers(-20, 110), st.integers(-(2**31), 2**31 - 1))),
        **dict.fromkeys(("utilization_percent", "power_mw", "power_limit_mw", "fan_percent"), known(U32)),
        **dict.fromkeys(("clock_mhz", "clock_max_mhz"), known(U32)),
        "event_reasons": known(U64),
        "last_xid": known(st.tuples(st.sampled_from((13, 48, 79, 2**63)), st.floats(0, 2000)).map(list)),
        "processes": known(st.lists(st.tuples(U32, known(U64)).map(list), max_size=3)),
        "mig": known(
            st.fixed_dictionaries({"enabled": st.booleans(), "instances": st.lists(INSTANCE, max_size=2)})
        ),
    }
)
QUESTIONS: Final = ("handle", "uuid", "memory", "utilization_percent", "power_mw", "event_reasons", "compute")
GPU: Final = st.fixed_dictionaries(
    {
        "state": st.sampled_from(STATES),
        "figures": st.one_of(FIGURES, FIGURES, st.just({})),
        "codes": st.dictionaries(st.sampled_from(QUESTIONS), st.sampled_from(CODES), max_size=4),
    }
)
LINE: Final = st.fixed_dictionaries(
    {
        "kind": st.just("sample"),
        "code": st.just(0),
        "driver": known(st.just("590.48.01")),
        "cuda": known(st.integers(-1, 99999)),
        "gpus": st.lists(GPU, max_size=3),
    }
)
LIVES: Final = st.lists(
    st.tuples(LINE, st.sampled_from((0.1, 5.0, 14.0, 16.0, 600.0))), min_size=1, max_size=5
)
BOARD_GPU: Final = st.builds(
    GpuReading,
    index=st.just(0),
    source=st.just("sysfs"),
    state=st.sampled_from(("ok", "gated")),
    node=st.sampled_from(("17000000.gpu", "gpu-gpc-0")),
    has_load_file=st.booleans(),
    utilization_percent=known(st.floats(0, 100)),
    temperature_c=known(st.floats(-100, 200)),
    is_unified=st.just(True),
)


@settings(max_examples=150, phases=PHASES)
@given(LIVES, st.sampled_from(SOURCE_STATES), st.sampled_from((0.0, 14.9, 15.1, 1e6)), known(BOARD_GPU))
def test_no_figure_of_a_stale_or_lost_card_is_shown_and_a_lost_one_is_never_ok(
    lives: list[tuple[dict[str, Any], float]], state: str, later_s: float, board_gpu: GpuReading | None
) -> None:
    report, now_mono = told_by(lives)
    report = replace(report, state=state)
    reports = [report]
    if board_gpu is not None:
        reports.append(
            replace(report, source="tegra", state="ok", readings=(board_gpu,), taken_mono=now_mono)
        )

    view = view_gpus(reports, now_mono=now_mono + later_s, stale_after_s=STALE_AFTER_S)
    entries: Any = json.loads(msgspec.json.encode(gpu_entries(view, HOST)))
    check = check_gpus(view, BoardWatch())

    assert wrong_types(entries) == []
    assert [left for entry in entries for left in figures_left(entry)] == []
    are_lost = [card.state in SURE_BY_ONE_FIGURE for card in view.cards]
    assert not any(are_lost) or check.status == "fail"
    assert not any(entry["stale"] for entry in entries) or check.status != "ok"
    flat = flat_figures(entries)
    is_told_by_none = any(
        lost and "sysfs" not in card.readings for lost, card in zip(are_lost, view.cards, strict=True)
    )
    assert flat["gpu_utilization"] is None or not is_told_by_none
    assert wrong_types([flat, source_entries(view), {"memory_bytes": free_gpu_bytes(entries)}]) == []


def told_by(lives: list[tuple[dict[str, Any], float]]) -> tuple[SourceReport, float]:
    """What the source knows after these lines, each so many seconds after the one before; and when that is."""
    report = SourceReport("nvml", "ok", "", 0.0, has_answered=True)
    now_mono = 1000.0
    for line, after_s in lives:
        now_mono += after_s
        heard = json.loads(json.dumps(numbered(line)))
        readings = carry_over(
            report.readings,
            readings_of(heard),
            taken_mono=now_mono if report.taken_mono is None else report.taken_mono,
            now_mono=now_mono,
            keep_s=KEEP_S,
        )
        report = replace(report, readings=readings, taken_mono=now_mono, cuda_version=cuda_version_of(heard))
    return report, now_mono


def numbered(line: Mapping[str, Any]) -> dict[str, Any]:
    return {**line, "gpus": [as_told(gpu, place) for place, gpu in enumerate(line["gpus"])]}


def as_told(gpu: Mapping[str, Any], place: int) -> dict[str, Any]:
    """As the child writes it: nothing for what was refused, and of a card that may not be opened nothing at all."""
    codes = gpu["codes"]
    if codes.get("handle") == NO_PERMISSION:
        return {"index": place, "state": "no_access", "figures": {}, "codes": {"handle": NO_PERMISSION}}
    refused = {"processes" if question == "compute" else question for question in codes}
    figures = {figure: None if figure in refused else value for figure, value in gpu["figures"].items()}
    return {**gpu, "index": place, "figures": figures}


def figures_left(entry: dict[str, Any]) -> list[tuple[str, object]]:
    """What a card shows that is stale, or NVML of one that is lost, but for who it is."""
    if entry["stale"]:
        shown = [(key, value) for key, value in entry.items() if key not in ABOUT and value is not None]
        return [*shown, *((key, entry[key]) for key in ("throttle_reasons", "kept_age_s") if entry[key])]
    if entry["state"] in SURE_BY_ONE_FIGURE:
        return [
            (key, entry[key]) for key, word in entry["sources"].items() if word == "nvml" and key not in WHO
        ]
    return []


@settings(max_examples=150, phases=PHASES)
@given(LIVES, st.sampled_from((0.0, 5.0, 14.9)))
def test_a_figure_that_is_kept_says_its_age_and_is_never_older_than_what_counts_as_stale(
    lives: list[tuple[dict[str, Any], float]], later_s: float
) -> None:
    report, now_mono = told_by(lives)

    view = view_gpus((report,), now_mono=now_mono + later_s, stale_after_s=STALE_AFTER_S)

    ages: list[Any] = [age for entry in gpu_entries(view, HOST) for age in _ages(entry)]
    assert [age for age in ages if age > STALE_AFTER_S] == []


def test_a_kept_figure_goes_before_the_readings_that_it_was_kept_in() -> None:
    figures = {
        "uuid": "GPU-a",
        "utilization_percent": 7,
        "memory": dict.fromkeys(("total", "used", "free"), 9),
    }
    lines = [
        {"driver": "1", "gpus": [{"state": "ok", "figures": figures, "codes": codes}]}
        for codes in ({}, {"memory": 10})
    ]
    report, now_mono = told_by([(lines[0], 5.0), (lines[1], 14.0)])

    shown = [
        gpu_entries(view_gpus((report,), now_mono=now_mono + later_s, stale_after_s=STALE_AFTER_S), HOST)[0]
        for later_s in (0.5, 1.5)  # the memory is 14.5 and 15.5 s old then
    ]

    assert [one["memory_used_bytes"] for one in shown] == [9, None]
    assert [one["utilization_percent"] for one in shown] == [7.0, 7.0]
    assert shown[1]["kept_age_s"] == {}


def _ages(entry: Mapping[str, object]) -> list[Any]:
    kept = entry["kept_age_s"]
    assert isinstance(kept, dict)
    return list(kept.values())
