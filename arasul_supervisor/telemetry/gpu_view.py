"""The GPUs as they may be shown at a given instant: nothing old passes for new, no figure passes for another. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu.merge import gpu_entry
from arasul_supervisor.telemetry.gpu.nvml_lines import SICK
from arasul_supervisor.telemetry.gpu.readings import GpuReading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.gpu.readings import SourceReport
    from arasul_supervisor.telemetry.host import HostMemory


@dataclass(frozen=True, slots=True)
class GpuView:
    """What is known of the GPUs now; figures that are too old are gone."""

    report: SourceReport
    readings: tuple[GpuReading, ...]
    age_s: float | None
    is_stale: bool


def view_gpus(report: SourceReport, *, now_mono: float, stale_after_s: float) -> GpuView:
    """The report as it may be shown at `now_mono`.

    A source that cannot work lends its state to the GPUs it knew; if it never knew one, a nameless GPU stands for
    what the driver would tell. A box without library has none at all.
    """
    age_s = None if report.taken_mono is None else max(0.0, now_mono - report.taken_mono)
    is_stale = age_s is not None and age_s > stale_after_s
    readings = report.readings
    if report.state != "ok":
        readings = tuple(one if one.state in SICK else replace(one, state=report.state) for one in readings)
        if not readings and report.state != "none":
            readings = (GpuReading(index=0, state=report.state),)
    if is_stale:
        readings = tuple(one.identity() for one in readings)
    return GpuView(report, readings, age_s, is_stale)


def gpu_entries(view: GpuView, host: HostMemory | None) -> list[dict[str, object]]:
    """`gpus[]`, JSON-ready. Memory that is the host's needs no GPU to answer, but goes with the others."""
    shown_host = None if view.is_stale else host
    return [
        {
            **gpu_entry(reading, shown_host, source=view.report.source),
            "age_s": rounded(view.age_s),
            "stale": view.is_stale,
        }
        for reading in view.readings
    ]


def flat_figures(entries: list[dict[str, object]]) -> Mapping[str, object]:
    """One figure for all GPUs: the highest load and temperature, the sum of memory in MiB as nvidia-smi counts it.

    None as soon as one is unknown: 0 % beside an unknown card would be a lie.
    """
    load = _all_known(entries, "utilization_percent")
    used = _all_known(entries, "memory_used_bytes")
    celsius = _all_known(entries, "temperature_c")
    return {
        "gpu_utilization": max(load) if load else None,
        "gpu_memory": round(sum(used) / 2**20) if used else None,
        "gpu_temperature": max(celsius) if celsius else None,
    }


def free_gpu_bytes(entries: list[dict[str, object]]) -> int | None:
    """Sum of the free memory of all GPUs; None as soon as one is unknown. Memory they share is counted once."""
    free = _all_known(entries, "memory_free_bytes")
    if free is None:
        return None
    if any(entry["memory_kind"] == "unified" for entry in entries):
        return int(max(free))
    return int(sum(free))


def rounded(seconds: float | None) -> float | None:
    """An age as JSON shows it, in milliseconds' steps."""
    return None if seconds is None else round(seconds, 3)


def _all_known(entries: list[dict[str, object]], figure: str) -> list[float] | None:
    values = [entry[figure] for entry in entries]
    numbers = [value for value in values if isinstance(value, (int, float))]
    return numbers if numbers and len(numbers) == len(values) else None
