"""What the point `gpu` of `/health` says once the engine's use of the GPU is known beside the GPU's own state. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.logs.meaning.finding import Finding
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.telemetry.gpu_check import GpuCheck

FULL_PERCENT: Final = 95.0
OUT_OF_MEMORY: Final = "out_of_memory"
RECENT_S: Final = 60.0
_GPU_IS_THERE: Final = ("ok", "warn")


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What the engine does with the GPU.

    `is_on_cpu`: its log said at the start that it found none. `cpu_wish`: why it is meant to use none; None: it is not.
    """

    is_on_cpu: bool = False
    cpu_wish: str | None = None
    loaded: tuple[LoadedModel, ...] = ()


def judge_gpu_use(
    gpu: GpuCheck, use: GpuUse, findings: Sequence[Finding], *, now_mono: float
) -> tuple[str, str]:
    """Status and sentence. A sick GPU speaks for itself; a well one that the engine does not use is a warning."""
    if gpu.status == "unknown" and gpu.has_gpu and use.is_on_cpu and use.cpu_wish is None:
        return "warn", f"Ollama computes on the CPU although this box has a GPU. {gpu.detail}"
    if gpu.status not in _GPU_IS_THERE:
        return gpu.status, gpu.detail
    if use.cpu_wish is not None:
        return gpu.status, f"{gpu.detail} Ollama computes on the CPU, for {use.cpu_wish}."
    if gpu.status == "warn":  # what is wrong with the GPU comes first: a restart may be the wrong cure
        return "warn", f"{gpu.detail} Ollama computes on the CPU." if use.is_on_cpu else gpu.detail
    if use.is_on_cpu:
        return "warn", (
            "Ollama computes on the CPU although this box has a GPU. `arasul-supervisor doctor` says what hides "
            "it; once that is mended, restart the engine."
        )
    stranded = _on_cpu_alone(use.loaded)
    if stranded:
        return "warn", (
            f"Of {', '.join(stranded[:3])} nothing lies on the GPU of this box: its memory was full at the load, or "
            "num_gpu 0 was asked for. Unload the model and load it again."
        )
    if _is_overfull(gpu, findings, now_mono):
        return "warn", (
            f"The GPU's memory is {gpu.fullest_percent:.0f} % full and a model did not fit a moment ago: unload a "
            "model, or ask for a shorter context."
        )
    return gpu.status, gpu.detail


def _on_cpu_alone(loaded: Sequence[LoadedModel]) -> list[str]:
    """Loaded models without a byte on the GPU; a size of 0 is Ollama's word for not knowing (facts/ollama.md §3.2)."""
    return [model.name for model in loaded if model.size_bytes > 0 and model.size_vram_bytes == 0]


def _is_overfull(gpu: GpuCheck, findings: Sequence[Finding], now_mono: float) -> bool:
    """A full card alone is normal: Ollama fills it by design (facts/gpu.md §5.1)."""
    if gpu.fullest_percent is None or gpu.fullest_percent <= FULL_PERCENT:
        return False
    return any(
        finding.outcome == OUT_OF_MEMORY and now_mono - finding.last_mono <= RECENT_S for finding in findings
    )
