"""The body of `/api/stats` (CONTRACT §4, facts/gpu.md §7.1) from what telemetry knows. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.board import BoardFigures
from arasul_supervisor.telemetry.gpu_view import (
    flat_figures,
    gpu_entries,
    own_entries,
    rounded,
    source_entries,
)
from arasul_supervisor.telemetry.host import LoadAverages, MemoryPressure
from arasul_supervisor.telemetry.process_view import (
    Processes,
    daemon_entry,
    engine_entry,
    gpu_bytes_by_pid,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.model_store.disk import StoreDisk
    from arasul_supervisor.telemetry.gpu_view import GpuView
    from arasul_supervisor.telemetry.host import HostMemory, HostSample
    from arasul_supervisor.telemetry.machine import Machine
    from arasul_supervisor.telemetry.mapped_figures import Mapped
    from arasul_supervisor.telemetry.process_figures import ProcessFigures, TreeFigures

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Look:
    """What one round of reads found, and when."""

    taken_mono: float
    taken_at: float
    host: HostSample
    cpu_percent: float | None
    engine: TreeFigures | None
    own: ProcessFigures | None


@dataclass(frozen=True, slots=True)
class Known:
    """All that telemetry knows at `now_mono`; `board` and `host_look` are None when too old."""

    now_mono: float
    view: GpuView
    machine: Machine | None
    last_look: Look | None
    host_look: Look | None
    board: BoardFigures | None
    engine_pid: int | None
    mapped: Mapped
    store_disk: StoreDisk | None
    model_names: Mapping[str, tuple[str, ...]]


def stats_payload(known: Known) -> dict[str, object]:
    """JSON-ready; a figure that is not known, or too old, is None."""
    look, last = known.host_look, known.last_look
    gpus = gpu_entries(known.view, look.host.memory if look else None)
    engine = look.engine if look and look.engine and look.engine.pid == known.engine_pid else None
    age_s = rounded(known.now_mono - last.taken_mono) if last else None
    processes = Processes(
        now_mono=known.now_mono,
        age_s=age_s,
        tree=engine,
        own=look.own if look else None,
        mapped=known.mapped,
        model_names=known.model_names,
        gpu_bytes=gpu_bytes_by_pid(gpus) if known.machine and known.machine.has_host_pids else {},
    )
    return {
        **flat_figures(own_entries(known.view, gpus)),
        "cpu_percent": look.cpu_percent if look else None,
        "process_memory_mb": round(engine.rss_bytes / _MIB) if engine else None,
        "timestamp": last.taken_at if last else None,
        "host": {**_host_entry(known), "age_s": age_s, "stale": last is not look},
        "gpus": gpus,
        "gpu_sources": source_entries(known.view),
        "engine": engine_entry(processes, known.engine_pid),
        "daemon": daemon_entry(processes),
        "platform": _platform_entry(known.machine, known.view),
    }


def _host_entry(known: Known) -> dict[str, object]:
    look = known.host_look
    memory = look.host.memory if look else None
    return {
        "memory": _memory_entry(memory) if memory else None,
        **_processor_entries(look),
        **_trouble_entries(look),
        "store": _store_entry(known.store_disk, known.now_mono) if known.store_disk else None,
        **_board_entry(known),
    }


def _board_entry(known: Known) -> dict[str, object]:
    """Power, over-current and throttle alerts are those of Jetson boards; elsewhere nobody tells them."""
    if known.board is None:
        return {**BoardFigures().as_json(), "temperatures_c": None, "emc_percent": known.view.emc_percent}
    return {**known.board.as_json(), "emc_percent": known.view.emc_percent}


def _memory_entry(memory: HostMemory) -> dict[str, object]:
    return {**asdict(memory), "used_bytes": memory.used_bytes, "used_percent": memory.used_percent}


def _processor_entries(look: Look | None) -> dict[str, object]:
    """`limit_cpus` and `pids.limit` are those of our control group or one above it; None: there is none."""
    load = look.host.load if look else LoadAverages()
    limits = look.host.limits if look else None
    return {
        "cpu": {
            "percent": look.cpu_percent if look else None,
            "cpus": look.host.cpus if look else None,
            "limit_cpus": limits.cpus if limits else None,
        },
        "load": asdict(load),
        "pids": {
            "limit": limits.pids_limit if limits else None,
            "current": limits.pids if limits else None,
        },
    }


def _trouble_entries(look: Look | None) -> dict[str, object]:
    """What tells that memory is, or was, short."""
    pressure = look.host.pressure if look else MemoryPressure()
    return {
        "oom": {
            "kills_total": look.host.oom_kills if look else None,
            "cgroup_kills_total": look.host.limits.oom_kills if look else None,
        },
        "memory_pressure": asdict(pressure),
    }


def _store_entry(disk: StoreDisk, now_mono: float) -> dict[str, object]:
    return {
        "folder": disk.folder,
        "total_bytes": disk.total_bytes,
        "free_bytes": disk.free_bytes,
        "used_percent": disk.used_percent,
        "age_s": rounded(max(0.0, now_mono - disk.seen_mono)),
    }


def _platform_entry(machine: Machine | None, view: GpuView) -> dict[str, object]:
    """`kind` is None until the first word of the GPU's source, unless the kernel tells a Jetson."""
    kind = None
    if (machine is not None and machine.is_jetson) or any("sysfs" in card.readings for card in view.cards):
        kind = "jetson"
    elif view.cards or view.has_worked:
        kind = "nvidia"
    elif view.has_answered:
        kind = "cpu"
    return {
        "kind": kind,
        "model": machine.model if machine else None,
        "soc": machine.soc if machine else None,
        "l4t": machine.l4t if machine else None,
        "jetpack": machine.jetpack if machine else None,
        "cuda": view.cuda_version,
        "kernel": machine.kernel if machine else None,
        "container": machine.is_container if machine else None,
    }
