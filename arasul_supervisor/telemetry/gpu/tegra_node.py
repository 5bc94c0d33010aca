"""The GPU of a Jetson as sysfs shows it: its node, load, clock and gating (facts/gpu.md §4).

Needs no root. A read can block in the board's firmware: only a listing of names is for the daemon itself.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in, read_int, read_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DEVFREQ: Final = "sys/class/devfreq"
# `17000000.gpu` (R36, R39), `17000000.ga10b` (R35), `*.gv11b`, `*.gp10b`, `57000000.gpu` (older); Thor `gpu-gpc-0`.
# The addresses matter: `fb000000.gpu` is the Mali of a Rockchip.
_NODE: Final = re.compile(r"(?:17|57)000000\.gpu|.+\.(?:ga10b|gv11b|gp10b|gm20b)|gpu-gpc-\d+")
_LOADS_ELSEWHERE: Final = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")
_POWER: Final = {
    "suspended": True,
    "suspending": False,
    "resuming": False,
    "active": False,
}  # Linux runtime PM
_FULL_LOAD: Final = 1000  # permille
_LOOKS: Final = 5
_BETWEEN_LOOKS_S: Final = 0.02  # the driver's own window is short: one look at a busy GPU can say 0


@dataclass(frozen=True, slots=True)
class NodeReading:
    """One look at the node; None: not told. `utilization_percent` is the mean of several looks."""

    name: str
    has_load: bool
    utilization_percent: float | None
    clock_mhz: float | None
    clock_max_mhz: float | None
    is_suspended: bool | None


def find_node(root: Path) -> str | None:
    """The name of the GPU's devfreq node; `gpu.0` where only its load is there; None: no GPU of a Tegra."""
    nodes = [name for name in names_in(root / _DEVFREQ) if _NODE.fullmatch(name)]
    if nodes:
        return nodes[0]
    return "gpu.0" if any(os.path.exists(root / path) for path in _LOADS_ELSEWHERE) else None


def read_node(root: Path, *, sleep: Callable[[float], None] = time.sleep) -> NodeReading | None:
    """One look; None when the node is not there (yet, or any more)."""
    name = find_node(root)
    if name is None:
        return None
    folder = root / _DEVFREQ / name
    load = _load_file(root, folder)
    return NodeReading(
        name=name,
        has_load=load is not None,
        utilization_percent=None if load is None else _mean_load(load, sleep),
        clock_mhz=_mhz(folder / "cur_freq"),
        clock_max_mhz=_mhz(folder / "max_freq"),
        is_suspended=_is_suspended(root, folder),
    )


def _load_file(root: Path, folder: Path) -> Path | None:
    """Thor has none: its load is NVML's."""
    for path in (folder / "device/load", *(root / path for path in _LOADS_ELSEWHERE)):
        if os.path.exists(path):
            return path
    return None


def _mean_load(path: Path, sleep: Callable[[float], None]) -> float | None:
    loads: list[int] = []
    for look in range(_LOOKS):
        if look:
            sleep(_BETWEEN_LOOKS_S)
        load = read_int(path)
        if load is not None and 0 <= load <= _FULL_LOAD:
            loads.append(load)
    return round(sum(loads) / len(loads) / 10, 1) if loads else None


def _mhz(path: Path) -> float | None:
    hertz = read_int(path)
    return None if hertz is None or hertz < 0 else hertz / 1e6


def _is_suspended(root: Path, folder: Path) -> bool | None:
    """Whether the GPU is without power now. Thor's is a PCI device, named by NVIDIA's own driver."""
    devices = [root / "sys/bus/pci/devices" / name for name in names_in(root / "proc/driver/nvidia/gpus")]
    candidates = (folder / "device", *(devices if len(devices) == 1 else ()))
    for device in candidates:
        status = read_name(device / "power/runtime_status")
        if status in _POWER:
            return _POWER[status]
    return None
