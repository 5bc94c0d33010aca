"""Does the engine have the libraries for this GPU, and does it choose the right ones? Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import to_int
from arasul_supervisor.telemetry.visibility.checks_driver import CUDA_13_DRIVER
from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, SKIP, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.visibility.engine_files import EngineFiles
    from arasul_supervisor.telemetry.visibility.facts import Board, Driver

ENGINE: Final = "engine"
JETPACK: Final = "jetpack"
_JETPACK_OF_L4T: Final = {
    35: 5,
    36: 6,
}  # discover/gpu.go of 0.34; newer boards take the common CUDA libraries
_KERNELS: Final = (
    (re.compile(r"5\.10\..*tegra"), 5),
    (re.compile(r"5\.15\..*tegra"), 6),
    (re.compile(r"6\..*tegra"), 7),
)
_COMMON: Final = "cuda_v13"


def check_engine(engine: EngineFiles, driver: Driver) -> Finding:
    """The binary, its llama-server, and a CUDA library that the driver can serve."""
    if engine.binary is None:
        return Finding(
            FAIL,
            ENGINE,
            "No engine is found: `ollama` is not on the PATH.",
            "Install it, or name it by ARASUL_OLLAMA.",
        )
    if engine.is_new and not engine.has_llama_server:
        return Finding(
            FAIL,
            ENGINE,
            f"{engine.binary} has no llama-server beside it or in ../lib/ollama: it looks healthy and loads nothing.",
            "Unpack the whole archive of Ollama, bin and lib.",
        )
    if not driver.has_gpu:
        return Finding(OK, ENGINE, f"{engine.binary} is complete for a box without a GPU.")
    found = ", ".join(sorted(name.removeprefix("top:") for name in engine.backends))
    if not engine.has_cuda:
        has_vulkan = any("vulkan" in name for name in engine.backends)
        seen = f"{engine.library_folder or f'{engine.binary} has no lib/ollama, and'} holds no CUDA library"
        return Finding(
            WARN if has_vulkan else FAIL,
            ENGINE,
            f"{seen}{f' (only {found})' if found else ''}.",
            "Unpack the whole archive of Ollama (ollama-linux-amd64 or -arm64, on a Jetson the one of its JetPack too)."
            + (
                " With Vulkan alone it computes only where a Vulkan driver is installed."
                if has_vulkan
                else ""
            ),
        )
    major = to_int(driver.module_version.partition(".")[0]) if driver.module_version else None
    numbered = {name for name in engine.backends if name.startswith("cuda_v")}
    if numbered == {_COMMON} and not driver.is_nvgpu and major is not None and major < CUDA_13_DRIVER:
        return Finding(
            FAIL,
            ENGINE,
            f"The engine has CUDA 13 only, and driver {driver.module_version} serves CUDA 12 at most.",
            f"Upgrade the driver to {CUDA_13_DRIVER} or newer, or unpack lib/ollama/cuda_v12 too.",
        )
    return Finding(OK, ENGINE, f"{engine.binary} has {found}.")


def check_jetpack(driver: Driver, board: Board, engine: EngineFiles, environ: Mapping[str, str]) -> Finding:
    """Ollama chooses by JETSON_JETPACK, else by the release file, which a container hides or brings from its image."""
    if not board.is_jetson:
        return Finding(SKIP, JETPACK, "This is no Jetson.")
    given = environ.get("JETSON_JETPACK", "").strip()
    chosen = _chosen(given, board)
    real = _of_kernel(board.kernel)
    if given and chosen is None:
        return Finding(
            FAIL,
            JETPACK,
            f"JETSON_JETPACK is {given!r}, which is no release.",
            f"Set it to {real}." if real in (5, 6) else "Unset it.",
        )
    if chosen is not None and real is not None and chosen != real and (chosen in (5, 6) or real in (5, 6)):
        source = f"JETSON_JETPACK is {given!r}" if given else f"/etc/nv_tegra_release says R{board.l4t}"
        return Finding(
            FAIL,
            JETPACK,
            f"{source}, but the kernel {board.kernel} is that of JetPack {real}: Ollama takes the wrong libraries.",
            f"Set JETSON_JETPACK={real} for the engine."
            if real in (5, 6)
            else "Leave JETSON_JETPACK unset or empty.",
        )
    if chosen is None and real in (5, 6):
        return Finding(
            FAIL,
            JETPACK,
            f"The kernel is that of JetPack {real}, but Ollama cannot see it: JETSON_JETPACK is unset and "
            "/etc/nv_tegra_release is not there, as in a container.",
            f"Set JETSON_JETPACK={real} for the engine.",
        )
    release = chosen if chosen is not None else real
    folder = f"cuda_jetpack{release}" if release in (5, 6) else _COMMON
    if engine.library_folder is not None and folder not in engine.backends:
        archive = f"ollama-linux-arm64{f'-jetpack{release}' if release in (5, 6) else ''}"
        return Finding(
            FAIL,
            JETPACK,
            f"{engine.library_folder} has no {folder}, the library for this Jetson.",
            f"Unpack the archive {archive} of the same Ollama release there too.",
        )
    return Finding(OK, JETPACK, f"JetPack {release or 'of unknown release'}: Ollama takes {folder}.")


def _chosen(given: str, board: Board) -> int | None:
    """The JetPack that Ollama believes in: 7 stands for all that take the common libraries."""
    if given:
        major = given.partition(".")[0]
        return int(major) if major.isascii() and major.isdigit() else None
    if board.l4t is None:
        return None
    return _JETPACK_OF_L4T.get(board.l4t, 7)


def _of_kernel(kernel: str | None) -> int | None:
    """The JetPack of a kernel's name, which no container hides (facts/gpu.md §2)."""
    return next((release for pattern, release in _KERNELS if pattern.match(kernel or "")), None)
