"""From what jetson-stats says to a line, and from the line to readings: units, and what of it is not believed. Pure.

Its service reads a Jetson in one of two ways (facts/gpu.md §6). By sysfs: clocks in kHz, `load` in percent, a figure
that cannot be read is absent. By NVML (`power_control` is `nvml`, on Thor): clocks in MHz or kHz, and whatever is
unknown is told as 0. Taken is only what §7 takes from it; of memory nothing, because it counts otherwise, and of the
rails nothing either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OFFLINE_CELSIUS: Final = -256  # a sensor that cannot be read, as that of a gated GPU
_PID: Final = 0  # columns of a process: pid, user, gpu, type, priority, state, cpu, memory, gpu memory, name
_GPU_KILOBYTES: Final = 8
_ABSURD: Final = 1e15
_LEAST_KHZ: Final = 10_000  # no GPU is clocked below 10 MHz, or above 10 GHz: a smaller number is in MHz

Line = dict[str, Any]  # Any: JSON written by our own child
Payload = Any  # whatever the service of a foreign package holds


def sample_line(payload: Payload, *, version: str) -> Line:
    """What is wanted of a payload, all clocks in kHz and all memory in bytes:

        {"kind":"sample","code":0,"version":"7.2.2","uptime_s":905412.3,"emc_percent":61,"gpus":[{"index":0,
         "name":"gpu","utilization_percent":98.5,"temperature_c":64.25,"clock_khz":1300500,"clock_max_khz":1300500,
         "processes":[[1792595,24090259456]]}]}

    :param version: of jetson-stats
    """
    payload = _mapping(payload)
    return {
        "kind": "sample",
        "code": 0,
        "version": version,
        "uptime_s": _number(payload.get("uptime")),
        "emc_percent": _emc_percent(payload),
        "gpus": [
            _gpu(index, name, _mapping(gpu), payload)
            for index, (name, gpu) in enumerate(_mapping(payload.get("gpu")).items())
        ],
    }


def jtop_readings_of(line: Line) -> tuple[GpuReading, ...]:
    """The GPUs of a `sample` line. Each is a Jetson's; its name there is the device tree's, which names no product."""
    return tuple(_reading(gpu) for gpu in line["gpus"])


def _reading(gpu: Line) -> GpuReading:
    rows = gpu["processes"]
    processes = None if rows is None else tuple(GpuProcess(pid, size) for pid, size in rows)
    return GpuReading(
        index=gpu["index"],
        source="jtop",
        utilization_percent=gpu["utilization_percent"],
        memory_by_processes_bytes=_sum_if_all_known(rows),
        temperature_c=gpu["temperature_c"],
        clock_mhz=_mhz(gpu["clock_khz"]),
        clock_max_mhz=_mhz(gpu["clock_max_khz"]),
        processes=processes,
        is_unified=True,
    )


def _sum_if_all_known(rows: Sequence[tuple[int, int | None]] | None) -> int | None:
    sizes = [size for _, size in rows or ()]
    known = [size for size in sizes if size is not None]
    return None if rows is None or len(known) < len(sizes) else sum(known)


def _mhz(khz: float | None) -> float | None:
    return None if khz is None else khz / 1000


def _gpu(index: int, name: object, gpu: Mapping[str, Any], payload: Mapping[str, Any]) -> Line:
    status, frequencies = _mapping(gpu.get("status")), _mapping(gpu.get("freq"))
    is_by_nvml = gpu.get("power_control") == "nvml"
    return {
        "index": index,
        "name": str(name),
        "utilization_percent": _told(status.get("load"), is_zero_unknown=is_by_nvml),
        "temperature_c": _temperature_c(payload, status),
        "clock_khz": _khz(frequencies.get("cur"), is_by_nvml=is_by_nvml),
        "clock_max_khz": _khz(frequencies.get("max"), is_by_nvml=is_by_nvml),
        "processes": _processes(payload, is_by_nvml=is_by_nvml) if index == 0 else None,
    }


def _khz(value: object, *, is_by_nvml: bool) -> float | None:
    khz = _told(value, is_zero_unknown=is_by_nvml)
    return khz * 1000 if khz is not None and is_by_nvml and khz < _LEAST_KHZ else khz


def _temperature_c(payload: Mapping[str, Any], status: Mapping[str, Any]) -> float | None:
    """The zone of the GPU, `gpu` or on JetPack 5 `GPU`; without it NVML's, where the service asks that."""
    zones = _mapping(payload.get("temperature"))
    zone = next((_mapping(zones[name]) for name in zones if str(name).lower() == "gpu"), {})
    celsius = _number(zone.get("temp"))
    if celsius is not None and celsius != _OFFLINE_CELSIUS and zone.get("online") is not False:
        return celsius
    return _told(status.get("temperature"), is_zero_unknown=True)


def _processes(payload: Mapping[str, Any], *, is_by_nvml: bool) -> list[list[int | None]] | None:
    """[pid, bytes], the rows of one pid added up as those of nvmap are; None when the service could not know.

    Its table is empty both when no process holds GPU memory and when it cannot be read. On the NVML path nothing tells
    these apart. On the other one both this table and the load of the memory controller come from debugfs.
    """
    table = payload.get("processes")
    if not isinstance(table, list) or not all(map(_is_row, table)):
        return None
    if not table and (is_by_nvml or _emc_percent(payload) is None):
        return None
    found: dict[int, int | None] = {}
    for row in table:
        size = _told(row[_GPU_KILOBYTES], is_zero_unknown=is_by_nvml)
        former = found.get(row[_PID], 0)
        found[row[_PID]] = None if size is None or former is None else former + int(size) * 1024
    return [[pid, size] for pid, size in sorted(found.items())]


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) > _GPU_KILOBYTES and type(row[_PID]) is int


def _emc_percent(payload: Mapping[str, Any]) -> float | None:
    """Load of the memory controller, in percent of what its present clock allows."""
    emc = _mapping(_mapping(payload.get("mem")).get("EMC"))
    return _number(emc.get("val")) if emc.get("online") else None


def _told(value: object, *, is_zero_unknown: bool) -> float | None:
    number = _number(value)
    return None if number is None or number < 0 or (is_zero_unknown and number == 0) else number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _ABSURD else None  # NaN and infinity are not


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
