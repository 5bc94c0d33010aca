"""What kind of box this is: kernel, board, release, container or not. Does not change while the daemon runs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_name, read_text
from arasul_supervisor.telemetry.gpu.tegra_node import find_node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONTAINER_FILES: Final = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_GROUPS: Final = re.compile(r"docker|kubepods|containerd|libpod|/lxc[/.]")
# A line as it was seen: `620 535 0:61 / / rw,relatime master:180 - overlay overlay rw,lowerdir=…`
_OVERLAY_ROOT: Final = re.compile(r"^\S+ \S+ \S+ \S+ / .* - (?:overlay|fuse\.fuse-overlayfs) ", re.MULTILINE)


# As it was seen: `# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: …`
_RELEASE: Final = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_SOC: Final = re.compile(r"nvidia,(tegra\d+)")
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h
_DEVICE_TREES: Final = ("sys/firmware/devicetree/base", "proc/device-tree")
_JETPACK_OF_L4T: Final[Mapping[str, str]] = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The unchanging part of `platform`. `jetpack` is the generation that the release of L4T belongs to.

    `has_host_pids`: a driver's pids are those of our own `/proc` (facts/gpu.md §3.3).
    """

    kernel: str | None
    is_jetson: bool
    is_container: bool
    has_host_pids: bool = True
    model: str | None = None
    soc: str | None = None
    l4t: str | None = None
    jetpack: str | None = None


def read_machine(root: Path) -> Machine:
    """One look at the box. The kernel's name holds `tegra` on every Jetson, in containers too (facts/gpu.md §4)."""
    kernel = read_name(root / "proc/sys/kernel/osrelease")
    is_container = _is_container(root)
    # a container's release file is its image's, not the board's
    l4t = None if is_container else _l4t(read_text(root / "etc/nv_tegra_release"))
    return Machine(
        kernel=kernel or None,
        is_jetson="tegra" in (kernel or "") or find_node(root) is not None,
        is_container=is_container,
        has_host_pids=_has_host_pids(),
        model=_of_device_tree(root, "model"),
        soc=_soc(_of_device_tree(root, "compatible")),
        l4t=l4t,
        jetpack=_JETPACK_OF_L4T.get(l4t.partition(".")[0]) if l4t else None,
    )


def _has_host_pids() -> bool:
    """Not below the root that stands for `/`: it is a matter of this very process."""
    try:
        return os.readlink("/proc/self/ns/pid") == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _l4t(text: str | None) -> str | None:
    found = _RELEASE.match(text or "")
    return f"{found[1]}.{found[2]}" if found else None


def _of_device_tree(root: Path, name: str) -> str | None:
    """Only a Jetson's: other boards have device trees, too, which the contract's `model` does not speak of."""
    for folder in _DEVICE_TREES:
        text = read_text(root / folder / name)
        if text:
            return text if _SOC.search(read_text(root / folder / "compatible") or "") else None
    return None


def _soc(compatible: str | None) -> str | None:
    found = _SOC.search(compatible or "")
    return found[1] if found else None


def _is_container(root: Path) -> bool:
    if any(read_text(root / name) is not None for name in _CONTAINER_FILES):
        return True
    if _CONTAINER_GROUPS.search(read_text(root / "proc/self/cgroup") or ""):
        return True
    return bool(_OVERLAY_ROOT.search(read_text(root / "proc/self/mountinfo") or ""))
