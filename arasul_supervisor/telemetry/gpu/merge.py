"""Which source wins, figure by figure, and the entry of `gpus[]` that comes of it (facts/gpu.md §7). Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.readings import GpuReading, Mig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.gpu.cards import Card
    from arasul_supervisor.telemetry.host import HostMemory

# The first source of the row that has a value gives it. `procfs` speaks only for a GPU that shares the host's memory,
# and then alone: NVML's memory figures of such a GPU are dropped when they are read.
WINNERS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("nvml",),
    "uuid": ("nvml",),
    "pci_bus_id": ("nvml",),
    "driver_version": ("nvml",),
    "utilization_percent": ("sysfs", "nvml", "jtop"),
    "memory_total_bytes": ("procfs", "nvml"),
    "memory_used_bytes": ("procfs", "nvml"),
    "memory_free_bytes": ("procfs", "nvml"),
    "memory_reserved_bytes": ("nvml",),
    "memory_by_processes_bytes": ("nvml", "sysfs", "jtop"),
    "temperature_c": ("sysfs", "nvml", "jtop"),
    "power_watts": ("hwmon", "nvml"),
    "power_limit_watts": ("nvml",),
    "clock_mhz": ("sysfs", "nvml", "jtop"),
    "clock_max_mhz": ("sysfs", "nvml", "jtop"),
    "throttled": ("sysfs", "nvml"),
    "throttle_reasons": ("nvml",),
    "fan_percent": ("nvml",),
    "last_xid": ("nvml",),
    "processes": ("nvml", "sysfs", "jtop"),
    "mig": ("nvml",),
}


def gpu_entry(card: Card, host: HostMemory | None) -> dict[str, object]:
    """One element of `gpus[]`, JSON-ready, but for its age.

    :param host: the host's memory, which is the GPU's where it is unified
    """
    readings = dict(card.readings)
    if card.is_unified and host is not None:
        readings["procfs"] = _shared_memory(card, host)
    values, sources = merge(readings)
    used, total = values["memory_used_bytes"], values["memory_total_bytes"]
    used_percent = None
    if isinstance(used, int) and isinstance(total, int) and total > 0:
        used_percent = round(100 * used / total, 1)
        sources["memory_used_percent"] = sources["memory_used_bytes"]
    kind, memory_kind = _kinds(card)
    processes, mig = values["processes"], values["mig"]
    return {
        **values,
        "index": card.index,
        "id": card.id,
        "kind": kind,
        "state": card.state,
        "memory_kind": memory_kind,
        "memory_used_percent": used_percent,
        "throttle_reasons": None if values["throttled"] is None else list(card.throttle_reasons),
        "processes": [asdict(process) for process in processes] if isinstance(processes, tuple) else None,
        "mig": _mig_entry(mig) if isinstance(mig, Mig) else None,
        "sources": sources,
    }


def merge(readings: Mapping[str, GpuReading]) -> tuple[dict[str, object], dict[str, str]]:
    """Each figure's value with the word of its source; a figure that nobody knows is None and has no source."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for figure, order in WINNERS.items():
        values[figure] = None
        for word in order:
            value = getattr(readings.get(word), figure, None)
            if value is not None:
                values[figure], sources[figure] = value, word
                break
    return values, sources


def _shared_memory(card: Card, host: HostMemory) -> GpuReading:
    return GpuReading(
        index=card.index,
        source="procfs",
        memory_total_bytes=host.total_bytes,
        memory_used_bytes=host.used_bytes,
        memory_free_bytes=host.available_bytes,
    )


def _kinds(card: Card) -> tuple[str | None, str | None]:
    if card.is_unified:
        return "integrated", "unified"
    return ("discrete", "dedicated") if card.name else (None, None)


def _mig_entry(mig: Mig) -> dict[str, object]:
    instances = [{**asdict(instance), "utilization_percent": None} for instance in mig.instances]
    return {"enabled": mig.is_enabled, "instances": instances}
