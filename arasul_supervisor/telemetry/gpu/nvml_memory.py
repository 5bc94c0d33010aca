"""The memory of NVIDIA's cards before the engine's first start, asked of their own library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu.launch_memory import LaunchMemory, memory_of
from arasul_supervisor.telemetry.gpu.nvml_codes import DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND
from arasul_supervisor.telemetry.gpu.nvml_verdict import (
    ANSWERED,
    DIED,
    NOT_ASKED,
    REFUSED,
    SILENT,
    nvml_verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.gpu.nvml_verdict import NvmlVerdict


def ask_memory(
    root: Path, *, timeout_s: float, environ: Mapping[str, str] | None, gives_up: Callable[[], bool]
) -> LaunchMemory:
    """What the library tells, or why it does not; the parameters are those of `memory_at_launch`."""
    told = nvml_verdict(timeout_s=timeout_s, environ=environ, gives_up=gives_up)
    gpus = memory_of(told.readings, root)
    if gpus or _has_no_gpu(told):
        return LaunchMemory(gpus)
    return LaunchMemory(trouble=_trouble(told, timeout_s))


def _has_no_gpu(told: NvmlVerdict) -> bool:
    """No library, no driver, or no card: then there is nothing to be limited."""
    if told.outcome == ANSWERED:
        return not told.readings
    return told.outcome == NOT_ASKED or told.code in (LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED)


def _trouble(told: NvmlVerdict, timeout_s: float) -> str:
    why = {
        SILENT: f"the driver did not answer within {timeout_s:g} s",
        REFUSED: f"NVML refuses with code {told.code}",
        DIED: "the process that asks NVML died",
    }.get(told.outcome, "NVML does not tell it")
    return (
        f"The GPU's memory is not known ({why}), so the engine starts without the limit of "
        "OLLAMA_GPU_MEMORY_FRACTION; once it is known, the engine's next start has it."
    )
