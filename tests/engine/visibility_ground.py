"""Boxes for the doctor: trees in which everything a GPU needs is in its place, for a test to spoil."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.visibility.viewpoint import Person

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = "590.48.01"
ROOT_USER: Final = Person(0, 0, frozenset({0}), is_almighty=True)
NOBODY: Final = Person(998, 998, frozenset({998}), is_almighty=False)


def write(root: Path, name: str, text: str = "") -> Path:
    """A file in the tree, with the folders above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def link(root: Path, name: str, target: str) -> None:
    """A symbolic link in the tree."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def card(root: Path, *, driver: str | None, address: str = "0000:01:00.0") -> None:
    """An NVIDIA card on the bus, held by that kernel driver."""
    folder = f"sys/bus/pci/devices/{address}"
    write(root, f"{folder}/vendor", "0x10de\n")
    write(root, f"{folder}/class", "0x030200\n")
    if driver is not None:
        link(root, f"{folder}/driver", f"../../../../bus/pci/drivers/{driver}")


def libraries(root: Path, *, version: str = VERSION, folder: str = "usr/lib/x86_64-linux-gnu") -> None:
    """Both libraries of the driver behind their links."""
    for name in ("libcuda.so", "libnvidia-ml.so"):
        write(root, f"{folder}/{name}.{version}")
        link(root, f"{folder}/{name}.1", f"{name}.{version}")


def nodes(root: Path, *names: str) -> None:
    """Files where the device nodes are, open to all."""
    for name in names:
        os.chmod(write(root, f"dev/{name}"), 0o666)


def well_pc(root: Path) -> Path:
    """A PC with one card, where everything is right."""
    write(root, "proc/sys/kernel/osrelease", "6.8.0-79-generic\n")
    write(root, "proc/uptime", "9999.00 1.00\n")
    write(root, "dev/kmsg", "6,1,100,-;Linux version\n")
    write(root, "sys/module/nvidia/version", f"{VERSION}\n")
    card(root, driver="nvidia")
    libraries(root)
    nodes(root, "nvidia0", "nvidiactl", "nvidia-uvm")
    return root


def well_orin(root: Path, *, kernel: str = "5.15.148-tegra") -> Path:
    """An Orin with JetPack 6, where everything is right."""
    write(root, "proc/sys/kernel/osrelease", f"{kernel}\n")
    write(root, "proc/uptime", "9999.00 1.00\n")
    write(root, "dev/kmsg", "6,1,100,-;Linux version\n")
    write(root, "proc/meminfo", "MemTotal: 65893392 kB\nMemAvailable: 60000000 kB\n")
    write(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.7, GCID: 1\n")
    write(root, "sys/class/devfreq/17000000.gpu/device/load", "0\n")
    write(root, "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1")
    link(root, "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1", "libcuda.so.1.1")
    nodes(root, "nvmap", "nvgpu/igpu0/ctrl")
    return root


def container(root: Path) -> None:
    """Makes the box a container of Docker."""
    write(root, ".dockerenv")


def engine(folder: Path, *backends: str, has_llama_server: bool = True) -> Path:
    """An Ollama with these libraries; the path of its binary."""
    binary = write(folder, "bin/ollama", "#!/bin/sh\n")
    binary.chmod(0o755)
    for backend in backends:
        write(folder, f"lib/ollama/{backend}/libggml-{backend.partition('_')[0]}.so")
    if has_llama_server:
        write(folder, "lib/ollama/llama-server")
    return binary
