"""What kind of box this is: kernel, container or not, Jetson or not. Does not change while the daemon runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

_CONTAINER_FILES: Final = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_GROUPS: Final = re.compile(r"docker|kubepods|containerd|libpod|/lxc[/.]")
# A line as it was seen: `620 535 0:61 / / rw,relatime master:180 - overlay overlay rw,lowerdir=…`
_OVERLAY_ROOT: Final = re.compile(r"^\S+ \S+ \S+ \S+ / .* - (?:overlay|fuse\.fuse-overlayfs) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """The unchanging part of `platform`."""

    kernel: str | None
    is_jetson: bool
    is_container: bool


def read_machine(root: Path) -> Machine:
    """One look at the box. The kernel's name holds `tegra` on every Jetson, in containers too (facts/gpu.md §4)."""
    kernel = read_text(root / "proc/sys/kernel/osrelease")
    return Machine(
        kernel=kernel or None,
        is_jetson="tegra" in (kernel or ""),
        is_container=_is_container(root),
    )


def _is_container(root: Path) -> bool:
    if any(read_text(root / name) is not None for name in _CONTAINER_FILES):
        return True
    if _CONTAINER_GROUPS.search(read_text(root / "proc/self/cgroup") or ""):
        return True
    return bool(_OVERLAY_ROOT.search(read_text(root / "proc/self/mountinfo") or ""))
