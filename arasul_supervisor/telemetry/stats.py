"""The body of `/api/stats` (CONTRACT §4, facts/gpu.md §7.1) from what telemetry knows. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu_view import flat_figures, gpu_entries, rounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.gpu_view import GpuView
    from arasul_supervisor.telemetry.host import HostMemory, HostSample
    from arasul_supervisor.telemetry.machine import Machine
    from arasul_supervisor.telemetry.process_figures import OwnFigures, TreeFigures

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Look:
    """What one round of reads found, and when."""

    taken_mono: float
    taken_at: float
    host: HostSample
    cpu_percent: float | None
    engine: TreeFigures | None
    own: OwnFigures


@dataclass(frozen=True, slots=True)
class Known:
    """All that telemetry knows at `now_mono`; `temperatures` and `host_look` are None when too old."""

    now_mono: float
    view: GpuView
    machine: Machine | None
    last_look: Look | None
    host_look: Look | None
    temperatures: Mapping[str, float | None] | None
    engine_pid: int | None


def stats_payload(known: Known) -> dict[str, object]:
    """JSON-ready; a figure that is not known, or too old, is None."""
    look, last = known.host_look, known.last_look
    gpus = gpu_entries(known.view, look.host.memory if look else None)
    engine = look.engine if look and look.engine and look.engine.pid == known.engine_pid else None
    age_s = rounded(known.now_mono - last.taken_mono) if last else None
    return {
        **flat_figures(gpus),
        "cpu_percent": look.cpu_percent if look else None,
        "process_memory_mb": round(engine.rss_bytes / _MIB) if engine else None,
        "timestamp": last.taken_at if last else None,
        "host": {**_host_entry(known), "age_s": age_s, "stale": last is not look},
        "gpus": gpus,
        "gpu_source": _source_entry(known.view),
        "engine": {
            "pid": known.engine_pid,
            "rss_bytes": engine.rss_bytes if engine else None,
            "processes": engine.processes if engine else None,
            "age_s": age_s if engine else None,
        },
        "daemon": {
            "pid": look.own.pid if look else None,
            "rss_bytes": look.own.rss_bytes if look else None,
            "open_fds": look.own.open_fds if look else None,
            "age_s": age_s,
        },
        "platform": _platform_entry(known.machine, known.view),
    }


def _host_entry(known: Known) -> dict[str, object]:
    """Limits, power, over-current and throttle alerts are those of Jetson boards; elsewhere nobody tells them."""
    memory = known.host_look.host.memory if known.host_look else None
    return {
        "memory": _memory_entry(memory) if memory else None,
        "temperatures_c": None if known.temperatures is None else dict(known.temperatures),
        "temperature_limits_c": {},
        "power": {"rails": [], "total_watts": None, "total_scope": None},
        "overcurrent": None,
        "throttle_alerts": None,
    }


def _memory_entry(memory: HostMemory) -> dict[str, object]:
    return {**asdict(memory), "used_bytes": memory.used_bytes, "used_percent": memory.used_percent}


def _source_entry(view: GpuView) -> dict[str, object]:
    report = view.report
    return {
        "source": report.source,
        "state": report.state if report.has_answered else None,
        "detail": report.sentence,
        "age_s": rounded(view.age_s),
        "stale": view.is_stale,
    }


def _platform_entry(machine: Machine | None, view: GpuView) -> dict[str, object]:
    """`kind` is None until the first word of the GPU's source, unless the kernel tells a Jetson."""
    kind = None
    if machine is not None and machine.is_jetson:
        kind = "jetson"
    elif view.readings or view.report.has_worked:
        kind = "nvidia"
    elif view.report.has_answered:
        kind = "cpu"
    return {
        "kind": kind,
        "model": None,
        "soc": None,
        "l4t": None,
        "kernel": machine.kernel if machine else None,
        "container": machine.is_container if machine else None,
    }
