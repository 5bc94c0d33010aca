"""From a line of the NVML child to readings: units, disbelief, words. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading, Mig, MigInstance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHARES_HOST_MEMORY: Final = re.compile(r"\(nvgpu\)|\bOrin\b|\bThor\b|\bGB10\b")
_NVGPU: Final = re.compile(r"\(nvgpu\)|\bOrin\b")  # a stub: what it does not refuse is 0, or rows of pid 0
_PERCENT, _FAN_PERCENT = (0, 100), (0, 200)  # some fans are driven beyond what their makers call full
_CELSIUS, _WATTS, _MHZ = (-100, 200), (0, 10_000), (0, 20_000)
_UNSUPPORTED: Final = (3, 13)
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
Line = dict[str, Any]  # Any: JSON written by our own child


def readings_of(line: Line) -> tuple[GpuReading, ...]:
    """The devices of a `sample` line."""
    return tuple(_reading(gpu, line["driver"]) for gpu in line["gpus"])


def cuda_version_of(line: Line) -> str | None:
    """`13.1` from the driver's 13010; None where it does not tell."""
    number = line.get("cuda")
    return f"{number // 1000}.{number % 1000 // 10}" if isinstance(number, int) and number > 0 else None


def _reading(gpu: Line, driver: str | None) -> GpuReading:
    figures, codes = gpu["figures"], gpu["codes"]
    name = figures.get("name")
    memory = figures.get("memory") or {}
    has_no_frame_buffer = memory.get("total") == 0
    memory = _memory(memory)
    watts, celsius = (
        _scaled(figures.get("power_mw"), 1000, _WATTS),
        _scaled(figures.get("temperature_c"), 1, _CELSIUS),
    )
    is_stub = has_no_frame_buffer and watts == 0 and celsius == 0  # success with zeros proves nothing
    is_unified = bool(SHARES_HOST_MEMORY.search(name or "")) or (
        gpu["state"] == "ok" and not is_stub and (has_no_frame_buffer or codes.get("memory") in _UNSUPPORTED)
    )
    if _NVGPU.search(name or ""):
        return _identity_of(gpu, driver)
    if has_no_frame_buffer or is_unified:
        memory = {}
    processes = _processes(figures.get("processes"))
    mig, xid = _mig(figures.get("mig")), figures.get("last_xid") or (None, None)
    is_silent_of_load = is_stub or (
        mig is not None and mig.is_enabled
    )  # of a card in slices it is not defined
    bits = figures.get("event_reasons")
    return GpuReading(
        index=gpu["index"],
        state=gpu["state"],
        name=name,
        uuid=figures.get("uuid"),
        pci_bus_id=figures.get("pci_bus_id"),
        driver_version=driver if figures else None,
        utilization_percent=None
        if is_silent_of_load
        else _scaled(figures.get("utilization_percent"), 1, _PERCENT),
        memory_total_bytes=memory.get("total"),
        memory_used_bytes=memory.get("used"),
        memory_free_bytes=memory.get("free"),
        memory_reserved_bytes=memory.get("reserved"),
        memory_by_processes_bytes=_sum_if_all_known(processes),
        temperature_c=None if is_stub else celsius,
        power_watts=None if is_stub else watts,
        power_limit_watts=_scaled(figures.get("power_limit_mw"), 1000, _WATTS),
        clock_mhz=_scaled(figures.get("clock_mhz"), 1, _MHZ),
        clock_max_mhz=_scaled(figures.get("clock_max_mhz"), 1, _MHZ),
        throttled=None if bits is None else bool(bits & _THROTTLING),
        throttle_reasons=None if bits is None else reasons_of(bits),
        fan_percent=_scaled(figures.get("fan_percent"), 1, _FAN_PERCENT),
        last_xid=xid[0],
        last_xid_mono=xid[1],
        processes=processes,
        mig=mig,
        is_unified=is_unified,
        refusals=codes,
    )


def _identity_of(gpu: Line, driver: str | None) -> GpuReading:
    figures = gpu["figures"]
    return GpuReading(
        index=gpu["index"],
        state=gpu["state"],
        name=figures.get("name"),
        uuid=figures.get("uuid"),
        pci_bus_id=figures.get("pci_bus_id"),
        driver_version=driver,
        is_unified=True,
        refusals=gpu["codes"],
    )


def reasons_of(bits: int) -> tuple[str, ...]:
    """The words of a mask of clock event reasons; an unknown bit as `0x…` (facts/gpu.md §7.2)."""
    set_bits = (1 << place for place in range(bits.bit_length()) if bits >> place & 1)
    return tuple(_REASONS.get(bit, hex(bit)) for bit in set_bits)


def _scaled(value: int | None, divisor: int, limits: tuple[float, float]) -> float | None:
    """In the figure's own unit; None for what no GPU can be, such as the all-ones of a driver that has no answer."""
    if value is None or not limits[0] <= value / divisor <= limits[1]:
        return None
    return value / divisor


def _memory(memory: Line) -> Line:
    """Bytes; nothing is believed of parts that are larger than the whole."""
    total = memory.get("total") or 0
    parts = (memory.get("used"), memory.get("free"), memory.get("reserved") or 0)
    return memory if all(part is not None and 0 <= part <= total for part in parts) else {}


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
