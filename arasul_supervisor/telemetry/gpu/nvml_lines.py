"""From a line of the NVML child to readings: units, disbelief, and what is kept from the look before. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading, Mig, MigInstance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHARES_HOST_MEMORY: Final = re.compile(r"\(nvgpu\)|\bOrin\b|\bThor\b|\bGB10\b")
_NVGPU: Final = re.compile(
    r"\(nvgpu\)|\bOrin\b"
)  # its utilisation through NVML is refused, or 0 whatever it does
_UNSUPPORTED: Final = (3, 13)
_TRANSIENT: Final = (10, 20)
SICK: Final = ("lost", "reset_required")
_REASONS: Final[Mapping[int, str]] = {
    0x1: "gpu_idle",
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
_THROTTLING: Final = 0x8 | 0x20 | 0x40 | 0x80
_FIGURES_OF: Final[Mapping[str, tuple[str, ...]]] = {  # what a refused question leaves empty
    "memory": ("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"),
    "power_mw": ("power_watts",),
    "power_limit_mw": ("power_limit_watts",),
    "event_reasons": ("throttled", "throttle_reasons"),
    "compute": ("processes", "memory_by_processes_bytes"),
}

Line = dict[str, Any]  # Any: JSON written by our own child


def readings_of(line: Line) -> tuple[GpuReading, ...]:
    """The devices of a `sample` line."""
    return tuple(_reading(gpu, line["driver"]) for gpu in line["gpus"])


def carry_over(
    before: Sequence[GpuReading],
    now: Sequence[GpuReading],
    *,
    taken_mono: float,
    now_mono: float,
    keep_s: float,
) -> tuple[GpuReading, ...]:
    """The new readings, with what the former look still has to say.

    A figure that failed in passing (codes 10, 20) keeps its value for `keep_s`; a sick device keeps the identity that
    it can no longer tell; a device that is not listed any more is lost.

    :param taken_mono: when `before` was taken
    """
    by_uuid = {reading.uuid: reading for reading in before if reading.uuid}
    by_index = {reading.index: reading for reading in before}
    carried: list[GpuReading] = []
    for reading in now:
        former = by_uuid.get(reading.uuid) if reading.uuid else by_index.get(reading.index)
        if former is None:
            carried.append(_since(reading, None, now_mono))
            continue
        if reading.uuid is None:
            reading = replace(
                former.identity(), index=reading.index, state=reading.state, refusals=reading.refusals
            )
        kept = _keep(former, reading, taken_mono=taken_mono, oldest_mono=now_mono - keep_s)
        carried.append(_since(kept, former, now_mono))
    listed = {reading.uuid for reading in carried}
    gone = (former for uuid, former in by_uuid.items() if uuid not in listed)
    return (*carried, *(replace(former.identity(), state="lost") for former in gone))


def _reading(gpu: Line, driver: str | None) -> GpuReading:
    figures, codes = gpu["figures"], gpu["codes"]
    name = figures.get("name")
    memory = figures.get("memory") or {}
    watts, celsius = _scaled(figures.get("power_mw"), 1000), _scaled(figures.get("temperature_c"), 1)
    has_no_frame_buffer = memory.get("total") == 0
    is_stub = has_no_frame_buffer and watts == 0 and celsius == 0  # success with zeros proves nothing
    is_unified = bool(_SHARES_HOST_MEMORY.search(name or "")) or (
        gpu["state"] == "ok" and not is_stub and (has_no_frame_buffer or codes.get("memory") in _UNSUPPORTED)
    )
    if has_no_frame_buffer or is_unified:
        memory = {}
    is_mute = is_stub or bool(_NVGPU.search(name or ""))
    processes = _processes(figures.get("processes"))
    bits = figures.get("event_reasons")
    return GpuReading(
        index=gpu["index"],
        state=gpu["state"],
        name=name,
        uuid=figures.get("uuid"),
        pci_bus_id=figures.get("pci_bus_id"),
        driver_version=driver if figures else None,
        utilization_percent=None if is_mute else _scaled(figures.get("utilization_percent"), 1),
        memory_total_bytes=memory.get("total"),
        memory_used_bytes=memory.get("used"),
        memory_free_bytes=memory.get("free"),
        memory_reserved_bytes=memory.get("reserved"),
        memory_by_processes_bytes=_sum_if_all_known(processes),
        temperature_c=None if is_stub else celsius,
        power_watts=None if is_stub else watts,
        power_limit_watts=_scaled(figures.get("power_limit_mw"), 1000),
        clock_mhz=_scaled(figures.get("clock_mhz"), 1),
        clock_max_mhz=_scaled(figures.get("clock_max_mhz"), 1),
        throttled=None if bits is None else bool(bits & _THROTTLING),
        throttle_reasons=None if bits is None else reasons_of(bits),
        processes=processes,
        mig=_mig(figures.get("mig")),
        is_unified=is_unified,
        refusals=codes,
    )


def reasons_of(bits: int) -> tuple[str, ...]:
    """The words of a mask of clock event reasons; an unknown bit as `0x…` (facts/gpu.md §7.2)."""
    set_bits = (1 << place for place in range(bits.bit_length()) if bits >> place & 1)
    return tuple(_REASONS.get(bit, hex(bit)) for bit in set_bits)


def _scaled(value: int | None, divisor: int) -> float | None:
    return None if value is None else value / divisor


def _processes(rows: Sequence[tuple[int, int | None]] | None) -> tuple[GpuProcess, ...] | None:
    return None if rows is None else tuple(GpuProcess(pid, size) for pid, size in rows)


def _sum_if_all_known(processes: tuple[GpuProcess, ...] | None) -> int | None:
    sizes = [process.memory_bytes for process in processes or ()]
    known = [size for size in sizes if size is not None]
    return None if processes is None or len(known) < len(sizes) else sum(known)


def _mig(mig: Line | None) -> Mig | None:
    if mig is None:
        return None
    instances = tuple(
        MigInstance(
            index=instance["index"],
            uuid=instance["uuid"],
            name=instance["name"],
            gpu_instance_id=instance["gpu_instance_id"],
            compute_instance_id=instance["compute_instance_id"],
            memory_total_bytes=(instance["memory"] or {}).get("total"),
            memory_used_bytes=(instance["memory"] or {}).get("used"),
        )
        for instance in mig["instances"]
    )
    return Mig(is_enabled=mig["enabled"], instances=instances)


def _keep(former: GpuReading, now: GpuReading, *, taken_mono: float, oldest_mono: float) -> GpuReading:
    """`now`, with the former value of each figure that failed in passing, unless that value is too old."""
    values: dict[str, Any] = {}  # Any: field values of different types
    since: dict[str, float] = {}
    for figure in _emptied((question for question, code in now.refusals.items() if code in _TRANSIENT)):
        value = getattr(former, figure, None)
        figure_mono = former.kept_since_mono.get(figure, taken_mono)
        if value is not None and getattr(now, figure) is None and figure_mono >= oldest_mono:
            values[figure] = value
            since[figure] = figure_mono
    return replace(now, **values, kept_since_mono=since)


def _emptied(questions: Iterable[str]) -> list[str]:
    fields = GpuReading.__dataclass_fields__
    return [
        figure
        for question in questions
        for figure in _FIGURES_OF.get(question, (question,))
        if figure in fields
    ]


def _since(reading: GpuReading, former: GpuReading | None, now_mono: float) -> GpuReading:
    """`reading` with what only a series of looks can tell: since when it throttles, and that it has worked."""
    has_worked = reading.state == "ok" or (former is not None and former.has_worked)
    since = former.throttled_since_mono if former is not None else None
    if since is None:
        since = now_mono
    return replace(reading, has_worked=has_worked, throttled_since_mono=since if reading.throttled else None)
