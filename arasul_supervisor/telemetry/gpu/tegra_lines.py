"""From a line of the Tegra child to readings of the one GPU of a Jetson, by sysfs and by its power rails. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.board import board_of
from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.board import BoardFigures

_GPU: Final = "gpu"
_RAIL_OF_THE_GPU: Final = (
    "VDD_GPU"  # Thor's; VDD_GPU_SOC and VDD_CPU_GPU_CV of the Orins hold more than the GPU
)

Line = dict[str, Any]  # Any: JSON written by our own child


def tegra_readings_of(line: Line) -> tuple[GpuReading, ...]:
    """What sysfs and what the rails say of the GPU; empty when its node is not there."""
    node = line["gpu"]
    if node is None:
        return ()
    board = board_of(line["board"])
    alert = (board.throttle_alerts or {}).get(_GPU)
    processes = None if line["nvmap"] is None else tuple(GpuProcess(pid, size) for pid, size in line["nvmap"])
    by_sysfs = GpuReading(
        index=0,
        source="sysfs",
        state="gated" if line["is_gated"] else "ok",
        node=node["name"],
        has_load_file=node["has_load"],
        utilization_percent=node["utilization_percent"],
        temperature_c=board.temperatures_c.get(_GPU),
        clock_mhz=node["clock_mhz"],
        clock_max_mhz=node["clock_max_mhz"],
        throttled=None if alert is None else alert > 0,
        throttle_reasons=("gpu-throttle-alert",) if alert else (),
        processes=processes,
        memory_by_processes_bytes=None if processes is None else sum(size for _, size in line["nvmap"]),
        is_unified=True,
    )
    watts = _gpu_watts(board)
    if watts is None:
        return (by_sysfs,)
    return by_sysfs, GpuReading(
        index=0, source="hwmon", node=node["name"], power_watts=watts, is_unified=True
    )


def board_line(line: Line) -> BoardFigures:
    """The figures of the board beside the GPU."""
    return board_of(line["board"])


def _gpu_watts(board: BoardFigures) -> float | None:
    rails = {rail.label: rail.watts for rail in board.power.rails}
    return rails.get(_RAIL_OF_THE_GPU)
