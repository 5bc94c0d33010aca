"""Whether there is anything for a child of the telemetry to do, and how it is started. Standard library only.

It lies on the way to the first spawn of the engine, so nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from arasul_supervisor.telemetry.files import read_text
from arasul_supervisor.telemetry.gpu.tegra_node import find_node

_PROGRAM: Final = Path(__file__).with_name("child_program.py")
_FOLDER_OF_PACKAGE: Final = Path(__file__).parents[3]
_SIGNS: Final = (
    "proc/driver/nvidia",
    "dev/nvidiactl",
    "dev/nvidia0",
    "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib/aarch64-linux-gnu/nvidia/libnvidia-ml.so.1",  # JetPack
    "usr/lib64/libnvidia-ml.so.1",
    "usr/lib/libnvidia-ml.so.1",
    "usr/lib/wsl/lib/libnvidia-ml.so.1",
    "usr/local/nvidia/lib64/libnvidia-ml.so.1",  # Kubernetes
    "run/opengl-driver/lib/libnvidia-ml.so.1",  # NixOS
)


@dataclass(frozen=True, slots=True)
class Signs:
    """Whether a source is there to be asked; another `version` of its kernel side needs another child."""

    is_there: bool
    version: str | None


def look_for_driver(root: Path) -> Signs:
    """What the file system says of an NVIDIA driver, without opening its library. Reads sysfs, so not for the loop.

    A Jetson's library may lie anywhere: its GPU is sign enough.
    """
    version = read_text(root / "sys/module/nvidia/version")
    has_sign = version is not None or any(os.path.exists(root / sign) for sign in _SIGNS)
    return Signs(is_there=has_sign or find_node(root) is not None, version=version or None)


def child_command(source: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """How to run the child that asks this source. `-I`: nothing of the user's environment changes what it imports."""
    program, parent, folder = str(_PROGRAM), str(os.getpid()), str(_FOLDER_OF_PACKAGE)
    return (sys.executable, "-I", program, source, parent, folder, *arguments)


def folder_of_module(name: str) -> str:
    """Where that module can be imported from, which `-I` may hide; empty where it is not installed.

    Looks on the disk, so not for the loop; imports nothing.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    return str(file.parent.parent if file.name == "__init__.py" else file.parent)
