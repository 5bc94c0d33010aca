"""What the file system says of the GPU's driver, the board, the container and Docker. Values only, below a root.

Nothing here opens a device or asks a driver: a listing, a link or a small file of sysfs cannot hang on a sick GPU.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in, read_text
from arasul_supervisor.telemetry.gpu.tegra_node import find_node
from arasul_supervisor.telemetry.machine import read_machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LIBRARIES: Final = ("libnvidia-ml.so.1", "libcuda.so.1")
_LIBRARY_FOLDERS: Final = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",  # Debian
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu/nvidia",  # JetPack 6 and 7
    "usr/lib/aarch64-linux-gnu/tegra",  # JetPack 5
    "usr/lib64",
    "usr/lib",
    "usr/lib/wsl/lib",
    "usr/local/nvidia/lib64",  # Kubernetes
    "run/opengl-driver/lib",  # NixOS
)
_MODULES: Final = ("nvidia", "nvidia_uvm", "nvgpu", "nouveau")
_NVIDIA: Final = "0x10de"  # vendor of PCI devices
_DISPLAY: Final = "0x03"  # class of PCI devices: VGA and 3D controllers
# `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build`
_MODULE_VERSION: Final = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.[\d.]*\d)")
_FILE_VERSION: Final = re.compile(r"\.so\.(\d{3,}\.[\d.]*\d)$")  # `libcuda.so.1.1` of a Jetson tells none
_SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_RELEASE: Final = re.compile(r"# R(\d+) ")  # `# R36 (release), REVISION: 4.7, …`
_MOST_LINKS: Final = 16


@dataclass(frozen=True, slots=True)
class PciCard:
    """An NVIDIA GPU on the bus, and the kernel driver that holds it."""

    address: str
    driver: str | None


@dataclass(frozen=True, slots=True)
class Library:
    """A library of the driver; the version is that of the file behind its link, None where its name has none."""

    name: str
    path: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Driver:
    """Both halves of the driver. `node` is a Jetson's GPU in sysfs; `is_secure_boot` None: not to be seen here.

    `listed`: addresses of the cards that the module itself lists, also where the bus is not to be seen.
    """

    modules: frozenset[str]
    module_version: str | None
    cards: tuple[PciCard, ...]
    libraries: tuple[Library, ...]
    node: str | None
    is_secure_boot: bool | None
    listed: tuple[str, ...] = ()

    @property
    def is_nvgpu(self) -> bool:
        """A Jetson whose GPU has the driver nvgpu: all before Thor (facts/gpu.md §2)."""
        return "nvgpu" in self.modules or (self.node is not None and not self.node.startswith("gpu-gpc"))

    @property
    def is_loaded(self) -> bool:
        """NVIDIA's own kernel module is there."""
        return "nvidia" in self.modules or self.module_version is not None

    @property
    def has_gpu(self) -> bool:
        """There is a GPU of NVIDIA's, or the driver for one."""
        return bool(self.cards) or self.node is not None or self.is_nvgpu or self.is_loaded


@dataclass(frozen=True, slots=True)
class Board:
    """The box. `l4t` is the release of a Jetson's system files: in a container the image's, if any."""

    kernel: str | None
    is_jetson: bool
    is_container: bool
    l4t: int | None
    groups_path: str  # of `/proc/self/cgroup`; names the scope where the namespace does not hide it


@dataclass(frozen=True, slots=True)
class Docker:
    """Docker on this host; `settings` is its daemon.json, None where that cannot be read as JSON."""

    is_there: bool
    settings: Mapping[str, object] | None
    is_cgroup_v2: bool


def read_driver(root: Path, environ: Mapping[str, str]) -> Driver:
    """The driver's halves, and the cards that wait for one.

    :param environ: the engine's, whose LD_LIBRARY_PATH is looked through first
    """
    version = read_text(root / "sys/module/nvidia/version")
    told = _MODULE_VERSION.search(read_text(root / "proc/driver/nvidia/version") or "")
    modules = {name for name in _MODULES if (root / "sys/module" / name).is_dir()}
    if (root / "proc/driver/nvidia").is_dir():
        modules.add("nvidia")
    return Driver(
        modules=frozenset(modules),
        module_version=version or (told[1] if told else None),
        cards=tuple(_cards(root)),
        libraries=tuple(_libraries(root, environ)),
        node=find_node(root),
        is_secure_boot=_is_secure_boot(root),
        listed=tuple(names_in(root / "proc/driver/nvidia/gpus")),
    )


def read_board(root: Path) -> Board:
    """Kind of box."""
    machine = read_machine(root)
    release = _RELEASE.search(read_text(root / "etc/nv_tegra_release") or "")
    return Board(
        kernel=machine.kernel,
        is_jetson=machine.is_jetson or find_node(root) is not None,
        is_container=machine.is_container,
        l4t=int(release[1]) if release else None,
        groups_path=read_text(root / "proc/self/cgroup") or "",
    )


def read_docker(root: Path) -> Docker:
    """Docker's settings."""
    text = read_text(root / "etc/docker/daemon.json")
    try:
        settings = json.loads(text) if text else {}
    except ValueError:
        settings = None
    places = ("usr/bin/dockerd", "usr/local/bin/dockerd", "usr/sbin/dockerd", "snap/bin/docker")
    return Docker(
        is_there=text is not None or any((root / place).exists() for place in places),
        settings=settings if isinstance(settings, dict) else None,
        is_cgroup_v2=(root / "sys/fs/cgroup/cgroup.controllers").exists(),
    )


def read_names(root: Path, table: str) -> Mapping[int, str]:
    """Names by number of `etc/group` or `etc/passwd`: lines such as `video:x:44:arasul`."""
    found: dict[int, str] = {}
    for line in (read_text(root / "etc" / table) or "").splitlines():
        words = line.split(":")
        if len(words) > 2 and words[2].isascii() and words[2].isdigit():
            found[int(words[2])] = words[0]
    return found


def _cards(root: Path) -> Iterator[PciCard]:
    folder = root / "sys/bus/pci/devices"
    for address in names_in(folder):
        device = folder / address
        is_nvidia = read_text(device / "vendor") == _NVIDIA
        if is_nvidia and (read_text(device / "class") or "").startswith(_DISPLAY):
            try:
                driver = os.path.basename(os.readlink(device / "driver"))
            except OSError:
                driver = None
            yield PciCard(address, driver)


def _libraries(root: Path, environ: Mapping[str, str]) -> Iterator[Library]:
    """Each library once for each file that it is: two folders may lead to the same one."""
    given = [
        folder.strip("/") for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder.strip("/")
    ]
    for name in LIBRARIES:
        seen: set[str] = set()
        for folder in (*given, *_LIBRARY_FOLDERS):
            path = root / folder / name
            file = _behind_links(root, path)
            if file is not None and str(file) not in seen:
                seen.add(str(file))
                version = _FILE_VERSION.search(file.name)
                yield Library(name, f"/{folder}/{name}", version[1] if version else None)


def _behind_links(root: Path, path: Path) -> Path | None:
    """The file itself; an absolute link leads to a place below `root`. None where there is no file."""
    for _ in range(_MOST_LINKS):
        try:
            target = os.readlink(path)
        except OSError:
            break
        path = root / target.lstrip("/") if target.startswith("/") else path.parent / target
    return path.resolve() if path.is_file() else None


def _is_secure_boot(root: Path) -> bool | None:
    """Four bytes of attributes, then 1 or 0; the last is stripped with the NUL bytes when it is 0."""
    text = read_text(root / _SECURE_BOOT)
    return text.endswith("\1") if text else None
