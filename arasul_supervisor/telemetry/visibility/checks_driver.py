"""Is the driver there, whole and loaded? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import to_int
from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, SKIP, WARN, Finding

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.visibility.facts import Board, Driver

NO_GPU: Final = "There is no GPU here."
OLDEST_DRIVER: Final = 550  # of Ollama 0.34 (its docs/gpu.mdx, discover/cuda_compat.go)
CUDA_13_DRIVER: Final = 580  # the oldest branch that CUDA 13 runs on


def check_driver(driver: Driver, board: Board) -> Finding:
    """The kernel's half: NVIDIA's module, or nvgpu on a Jetson; nothing else may hold the card."""
    subject = "driver"
    if driver.is_nvgpu:
        return Finding(OK, subject, f"The GPU of this Jetson is there ({driver.node or 'nvgpu'}).")
    if driver.is_loaded:
        return _loaded(driver, subject)
    if not driver.cards:
        if driver.node is not None:
            return Finding(
                FAIL,
                subject,
                f"The GPU of this Jetson is there ({driver.node}), but its driver, the module nvidia, is not loaded.",
                "sudo modprobe nvidia; where that fails, `sudo dmesg` says why.",
            )
        if board.is_jetson:
            return Finding(
                FAIL,
                subject,
                f"The kernel is a Jetson's ({board.kernel}), but its GPU is not in /sys/class/devfreq.",
                "Right after boot it may come late: look again. Else look for nvgpu in `sudo dmesg`.",
            )
        return Finding(
            SKIP, subject, "No NVIDIA card on the PCI bus, no driver of one, no GPU of a Jetson is seen."
        )
    cards = ", ".join(card.address for card in driver.cards)
    holders = sorted({card.driver for card in driver.cards if card.driver})
    if "nouveau" in driver.modules or "nouveau" in holders:
        return Finding(
            FAIL,
            subject,
            f"The card at {cards} is held by nouveau, which CUDA cannot use.",
            "Install NVIDIA's driver, which blacklists nouveau, and reboot.",
        )
    if holders:
        return Finding(
            FAIL,
            subject,
            f"The card at {cards} is held by {', '.join(holders)}, not by NVIDIA's driver.",
            "vfio-pci means that it is lent to a virtual machine; else unbind it and load the module nvidia.",
        )
    secure = ""
    if driver.is_secure_boot:
        secure = (
            " Secure Boot is on: the kernel refuses a module that is not signed by a key it knows (`mokutil "
            "--list-enrolled`; `sudo dmesg | grep -i 'module verification\\|key was rejected'`)."
        )
    return Finding(
        FAIL,
        subject,
        f"There is a card at {cards} on the bus, but no kernel driver for it is loaded.",
        f"Install NVIDIA's driver for this kernel, or load it: sudo modprobe nvidia.{secure}",
    )


def check_library(driver: Driver, board: Board) -> Finding:
    """The user's half: libcuda for CUDA, libnvidia-ml for figures, both of the module's version."""
    subject = "library"
    if not driver.has_gpu:
        return Finding(SKIP, subject, NO_GPU)
    cuda = [library for library in driver.libraries if library.name.startswith("libcuda")]
    if not cuda:
        return Finding(
            FAIL,
            subject,
            "libcuda.so.1 is in none of the usual folders, and CUDA does not work without it.",
            _missing_library(driver, board),
        )
    versions = sorted({library.version for library in driver.libraries if library.version})
    module = driver.module_version
    strange = [version for version in versions if module and version != module]
    # A Jetson's display has a module nvidia of its own, which CUDA there does not use.
    if strange and not driver.is_nvgpu:
        where = ", ".join(
            f"{one.path} is {one.version}" for one in driver.libraries if one.version in strange
        )
        return Finding(
            FAIL,
            subject,
            f"The kernel module is {module}, but {where}.",
            "The driver was upgraded under the running kernel: what runs on the GPU goes on, anything new fails. Do "
            "not restart Ollama before the reboot that loads the new module. Where two drivers are installed, remove "
            "one.",
        )
    if not any(library.name.startswith("libnvidia-ml") for library in driver.libraries) and driver.is_loaded:
        return Finding(
            WARN,
            subject,
            "libnvidia-ml.so.1 is in none of the usual folders: Ollama can compute, but figures of the GPU are "
            "missing.",
            "In a container: let NVIDIA_DRIVER_CAPABILITIES hold utility. Else install the driver's library package.",
        )
    version = f" of version {versions[0]}" if versions else ""
    return Finding(OK, subject, f"{cuda[0].path} is there{version}.")


def _loaded(driver: Driver, subject: str) -> Finding:
    version = driver.module_version
    seen = f"The kernel module nvidia {version or 'of unknown version'} is loaded."
    major = to_int(version.partition(".")[0]) if version else None
    if major is not None and major < OLDEST_DRIVER:
        return Finding(
            WARN,
            subject,
            f"{seen} Ollama 0.34 asks for {OLDEST_DRIVER} or newer (570 for cards before Volta) and falls back to the "
            "CPU on older ones.",
            "Upgrade the driver.",
        )
    idle = [card.address for card in driver.cards if card.driver != "nvidia"]
    if idle and len(idle) == len(driver.cards):
        return Finding(
            FAIL,
            subject,
            f"{seen} It has taken none of the cards ({', '.join(idle)}).",
            "Look for NVRM in `sudo dmesg`: the driver says why it refuses a card, such as one too old or too new.",
        )
    return Finding(OK, subject, seen)


def _missing_library(driver: Driver, board: Board) -> str:
    if board.is_container:
        return (
            "The container toolkit of NVIDIA puts it into the container: start it with the runtime nvidia or --gpus, "
            "and let NVIDIA_DRIVER_CAPABILITIES hold compute."
        )
    if driver.is_nvgpu:
        return "Install JetPack's libraries: sudo apt-get install nvidia-l4t-cuda, or nvidia-jetpack."
    return "Install the driver's user part of the same version, such as libnvidia-compute-NNN on Ubuntu."
