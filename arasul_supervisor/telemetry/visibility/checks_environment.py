"""Does a variable hide the GPU from the engine, or a setting of ours? Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from arasul_supervisor.telemetry.gpu.readings import GpuReading
    from arasul_supervisor.telemetry.visibility.engine_files import EngineFiles
    from arasul_supervisor.telemetry.visibility.facts import Driver

ENVIRONMENT: Final = "environment"
SETTINGS: Final = "settings"
_GO_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")  # strconv.ParseBool
_DEVICE: Final = re.compile(r"\d{1,3}|GPU-[0-9A-Fa-f-]+|MIG-.+")
_MIB: Final = 2**20


def check_environment(
    environ: Mapping[str, str], driver: Driver, engine: EngineFiles, readings: Sequence[GpuReading]
) -> tuple[Finding, ...]:
    """Each variable that takes the GPU away, else one good word.

    :param environ: the engine's
    :param readings: the GPUs that NVML told of; empty where it told nothing
    """
    if not driver.has_gpu:
        return (Finding(OK, ENVIRONMENT, "There is no GPU that a variable could hide."),)
    findings = (
        *_visible_devices(environ.get("CUDA_VISIBLE_DEVICES"), readings),
        *_layers(environ),
        *_library(environ.get("OLLAMA_LLM_LIBRARY", "").strip().strip("\"'"), engine),
        *_switches(environ, driver, engine),
        *_memory_left_free(environ, engine, readings),
    )
    return findings or (Finding(OK, ENVIRONMENT, "No variable hides the GPU from the engine."),)


def check_settings(driver: Driver, *, gpu: str, gpu_layers: int | None) -> Finding:
    """What our own settings do to the GPU: the layers are the engine's, the source only that of the figures."""
    if gpu_layers == 0:
        return Finding(
            FAIL,
            SETTINGS,
            "LLM_GPU_LAYERS is 0: every layer stays on the CPU.",
            "Unset it for all layers that fit, or give the number that you want on the GPU.",
        )
    if gpu == "none":
        return Finding(
            WARN,
            SETTINGS,
            "ARASUL_GPU is none: the engine may use the GPU, but there are no figures of it and no health point.",
            "Unset it (auto).",
        )
    is_jetson = driver.node is not None or driver.is_nvgpu
    if gpu == "tegra" and driver.has_gpu and not is_jetson:
        return Finding(
            WARN,
            SETTINGS,
            "ARASUL_GPU is tegra, and there is an NVIDIA card but no GPU of a Jetson: the engine may use the card, but "
            "there are no figures of it and no health point.",
            "Unset it (auto), or set it to nvml.",
        )
    return Finding(
        OK,
        SETTINGS,
        f"ARASUL_GPU is {gpu}, LLM_GPU_LAYERS is {'unset' if gpu_layers is None else gpu_layers}.",
    )


def _visible_devices(value: str | None, readings: Sequence[GpuReading]) -> Iterator[Finding]:
    """CUDA takes the list up to its first entry that means nothing."""
    if value is None:
        return
    chosen = value.strip()
    if not chosen:
        yield Finding(
            FAIL,
            ENVIRONMENT,
            "CUDA_VISIBLE_DEVICES is empty, which hides every GPU.",
            "Unset it; empty is not unset.",
        )
        return
    first = chosen.split(",")[0].strip()
    if not _DEVICE.fullmatch(first):
        advice = "Unset it, or name GPUs as `nvidia-smi -L` does."
        yield Finding(
            FAIL, ENVIRONMENT, f"CUDA_VISIBLE_DEVICES is {chosen!r}, which hides every GPU.", advice
        )
        return
    uuids = [reading.uuid for reading in readings if reading.uuid]
    is_known = (
        int(first) < len(readings) if first.isdigit() else any(uuid.startswith(first) for uuid in uuids)
    )
    if readings and not is_known and not first.startswith("MIG-"):
        yield Finding(
            FAIL,
            ENVIRONMENT,
            f"CUDA_VISIBLE_DEVICES begins with {first!r}, and there is no such GPU: CUDA stops there and sees none.",
            "`nvidia-smi -L` lists them; UUIDs stay the same over reboots, indices do not.",
        )


def _layers(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Both by llama-server's own help: layers on the GPU, and devices to use."""
    if environ.get("LLAMA_ARG_N_GPU_LAYERS", "").strip() == "0":
        yield Finding(
            FAIL,
            ENVIRONMENT,
            "LLAMA_ARG_N_GPU_LAYERS is 0: every layer stays on the CPU.",
            "Unset it, or LLM_GPU_LAYERS, from which the daemon makes it.",
        )
    if environ.get("LLAMA_ARG_DEVICE", "").strip() == "none":
        yield Finding(FAIL, ENVIRONMENT, "LLAMA_ARG_DEVICE is none: nothing goes to a GPU.", "Unset it.")


def _library(wanted: str, engine: EngineFiles) -> Iterator[Finding]:
    if not wanted or wanted in engine.backends or wanted.startswith("mlx_"):
        return
    found = ", ".join(sorted(name for name in engine.backends if not name.startswith("top:"))) or "none"
    yield Finding(
        FAIL,
        ENVIRONMENT,
        f"OLLAMA_LLM_LIBRARY is {wanted!r}: every other library is passed over, and there are: {found}.",
        "Unset it; Ollama finds the right one itself.",
    )


def _switches(environ: Mapping[str, str], driver: Driver, engine: EngineFiles) -> Iterator[Finding]:
    is_integrated = driver.node is not None or driver.is_nvgpu
    if is_integrated and engine.is_new and _go(environ, "OLLAMA_IGPU_ENABLE") in _GO_FALSE:
        yield Finding(
            FAIL,
            ENVIRONMENT,
            "OLLAMA_IGPU_ENABLE is off, and the GPU of a Jetson is an integrated one: Ollama drops it.",
            "Unset it.",
        )
    has_vulkan_only = not engine.has_cuda and any("vulkan" in name for name in engine.backends)
    is_off = _go(environ, "OLLAMA_VULKAN") in _GO_FALSE or _go(environ, "GGML_VK_VISIBLE_DEVICES") == "-1"
    if has_vulkan_only and is_off:
        yield Finding(
            FAIL,
            ENVIRONMENT,
            "Vulkan is the engine's only way to the GPU, and OLLAMA_VULKAN or GGML_VK_VISIBLE_DEVICES turns it off.",
            "Unset both.",
        )


def _memory_left_free(
    environ: Mapping[str, str], engine: EngineFiles, readings: Sequence[GpuReading]
) -> Iterator[Finding]:
    """Asked to leave free more than there is, the engine puts nothing on the GPU."""
    totals = [reading.memory_total_bytes for reading in readings if reading.memory_total_bytes]
    if not totals:
        return
    name, unit = ("LLAMA_ARG_FIT_TARGET", _MIB) if engine.is_new else ("OLLAMA_GPU_OVERHEAD", 1)
    sizes = [int(part) * unit for part in re.split(r"[,/]", _go(environ, name)) if part.strip().isdecimal()]
    if sizes and max(sizes) >= min(totals):
        yield Finding(
            FAIL,
            ENVIRONMENT,
            f"{name} leaves {max(sizes) // _MIB} MiB of each GPU free, and the smallest has {min(totals) // _MIB} MiB.",
            "Unset it; OLLAMA_GPU_MEMORY_FRACTION does the same with care.",
        )


def _go(environ: Mapping[str, str], name: str) -> str:
    """As Ollama reads it."""
    return environ.get(name, "").strip().strip("\"'")
