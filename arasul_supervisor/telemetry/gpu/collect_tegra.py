"""The GPU and the board of a Jetson as the child sees them, from sysfs alone. A sample:

{"kind":"sample","code":0,"gpu":{"name":"17000000.gpu","has_load":true,"utilization_percent":98.5,…},
 "is_gated":false,"gpu_temperature_c":64.25,"nvmap":[[1234,23525644000]],"board":{"temperatures_c":{…},…}}
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.board import BoardReader
from arasul_supervisor.telemetry.files import read_text, to_int
from arasul_supervisor.telemetry.gpu.connection import Connection
from arasul_supervisor.telemetry.gpu.tegra_node import read_node

if TYPE_CHECKING:
    from collections.abc import Sequence

_GPU_ZONE: Final = "gpu"
_NVMAP: Final = "sys/kernel/debug/nvmap/iovmm/clients"
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def connect(arguments: Sequence[str]) -> Connection:
    """Nothing has to be opened.

    :param arguments: the root that stands for `/`
    """
    return Connection({"kind": "ready"}, TegraCollector(Path(arguments[0])).sample)


class TegraCollector:
    """Reads GPU and board one after the other."""

    def __init__(self, root: Path) -> None:
        """Read below `root`."""
        self._root = root
        self._board = BoardReader(root)

    def sample(self, now_mono: float) -> dict[str, object]:
        """One line."""
        node, board = read_node(self._root), self._board.read(now_mono)
        is_gated = None
        if node is not None:
            is_gated = node.is_suspended if node.is_suspended is not None else _GPU_ZONE in board.gated_zones
        return {
            "kind": "sample",
            "code": 0,
            "gpu": None if node is None else asdict(node),
            "is_gated": is_gated,
            "nvmap": read_nvmap(self._root),
            "board": board.as_json(),
        }


def read_nvmap(root: Path) -> list[tuple[int, int]] | None:
    """[pid, bytes] of each process with GPU memory; None where debugfs is not ours to read, or tells only zeros.

    Lines as they were published: `user   nvargus-daemon   1234   16640K`, and a last one `total   23549320K`.
    """
    found: dict[int, int] = {}
    for line in (read_text(root / _NVMAP) or "").splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        pid, size, unit = to_int(words[-2]), to_int(words[-1][:-1]), words[-1][-1]
        if pid is not None and size is not None and unit in _UNITS and min(pid, size) >= 0:
            found[pid] = found.get(pid, 0) + size * _UNITS[unit]
    return sorted(found.items()) if any(found.values()) else None
