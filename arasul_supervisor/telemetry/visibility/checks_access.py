"""Can the engine reach the device nodes, and was its container given them? Pure."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.visibility.checks_driver import NO_GPU
from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, SKIP, WARN, Finding
from arasul_supervisor.telemetry.visibility.nodes import HANGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.telemetry.visibility.facts import Board, Docker, Driver
    from arasul_supervisor.telemetry.visibility.nodes import Node, Nodes
    from arasul_supervisor.telemetry.visibility.viewpoint import Person

NODES: Final = "nodes"
CONTAINER: Final = "container"
CGROUP: Final = "cgroup"
_NOBODY_ASKED: Final = (
    "",
    "void",
)  # then NVIDIA's runtime does nothing (container toolkit, "GPU Enumeration")
_SYSTEMD_SCOPE: Final = re.compile(r"docker-[0-9a-f]{12,}\.scope")
_CGROUPFS_PATH: Final = re.compile(r"/docker/[0-9a-f]{12,}")
_RELOAD_TRAP: Final = (
    "with the systemd cgroup driver a container loses its GPU at the next `systemctl daemon-reload` of the host "
    "(NVIDIA container toolkit, issue 48)"
)
_RELOAD_CURE: Final = (
    'Set "exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json and restart Docker; or give the '
    "nodes by --device (/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm) or by CDI (--device nvidia.com/gpu=all)."
)


def check_nodes(
    driver: Driver,
    board: Board,
    nodes: Nodes,
    person: Person,
    *,
    users: Mapping[int, str],
    groups: Mapping[int, str],
) -> tuple[Finding, ...]:
    """Each node that is missing or shut, else one good word for all.

    :param users: names by uid
    :param groups: names by gid
    """
    if not driver.has_gpu:
        return (Finding(SKIP, NODES, NO_GPU),)
    user = users.get(person.uid, f"uid {person.uid}")
    findings = list(_missing(driver, board, nodes))
    for node in nodes.present:
        finding = _shut(node, person, user, groups, board, is_as_engine=nodes.is_tried_as_engine)
        if finding is not None:
            findings.append(finding)
    if findings:
        return tuple(findings)
    names = ", ".join(node.path for node in nodes.present)
    untried = [node.path for node in nodes.present if node.outcome is None]
    if untried:
        seen = f"By mode and owner {user} may open {names}; nothing could be tried."
        return (Finding(WARN, NODES, seen, "Run this as root, or as the engine's user."),)
    if not nodes.is_tried_as_engine:
        seen = f"{names} open for this shell, and by mode and owner for {user} too."
        return (Finding(OK, NODES, seen),)
    return (Finding(OK, NODES, f"{user} can open {names}."),)


def check_container(driver: Driver, board: Board, nodes: Nodes, environ: Mapping[str, str]) -> Finding:
    """Whether NVIDIA's runtime gave the container a GPU. Only where nodes are missing do its variables matter:
    with CDI they say `void` although the nodes are there."""
    if not board.is_container:
        return Finding(SKIP, CONTAINER, "This is no container.")
    if not driver.has_gpu:
        return Finding(SKIP, CONTAINER, f"In a container. {NO_GPU}")
    if nodes.present and not nodes.missing:
        return _capabilities(driver, environ)
    asked = environ.get("NVIDIA_VISIBLE_DEVICES")
    how = (
        "runtime: nvidia with NVIDIA_VISIBLE_DEVICES=all (compose.jetson.yaml)"
        if board.is_jetson
        else "`docker run --gpus all`, or compose.nvidia.yaml"
    )
    if asked is None or asked.strip() in _NOBODY_ASKED:
        shown = "is not set" if asked is None else f"is {asked.strip()!r}"
        return Finding(
            FAIL,
            CONTAINER,
            f"The host has a GPU, but this container was started without one (NVIDIA_VISIBLE_DEVICES {shown}).",
            f"Create it with a GPU: {how}. A restart of the old container does not add one.",
        )
    if asked.strip() == "none":
        return Finding(
            FAIL,
            CONTAINER,
            "NVIDIA_VISIBLE_DEVICES is 'none': the container gets the driver's libraries, and no GPU.",
            "Set it to all, or to the UUIDs of `nvidia-smi -L`, and create the container anew.",
        )
    return Finding(
        FAIL,
        CONTAINER,
        f"NVIDIA_VISIBLE_DEVICES asks for {asked.strip()!r}, but nobody obeyed: the nodes are missing.",
        "On the host: install NVIDIA's container toolkit, run `sudo nvidia-ctk runtime configure --runtime=docker`, "
        f"restart Docker, and create the container with {how}.",
    )


def check_cgroup_driver(driver: Driver, board: Board, docker: Docker) -> Finding:
    """The trap in which a container loses its GPU hours after a good start."""
    if not driver.has_gpu:
        return Finding(SKIP, CGROUP, NO_GPU)
    if board.is_container:
        return _own_scope(board)
    if not docker.is_there:
        return Finding(SKIP, CGROUP, "There is no Docker on this host.")
    if docker.settings is None:
        return Finding(
            WARN,
            CGROUP,
            "/etc/docker/daemon.json is no JSON object: Docker does not start with it.",
            "`sudo dockerd --validate` says where it is wrong.",
        )
    if board.is_jetson and not _knows_nvidia(docker.settings):
        return Finding(
            WARN,
            CGROUP,
            "The Docker of this Jetson knows no runtime nvidia, so no container gets the GPU.",
            "sudo apt-get install nvidia-container; sudo nvidia-ctk runtime configure --runtime=docker; then restart "
            "Docker.",
        )
    named = _cgroup_driver(docker.settings)
    if named == "cgroupfs" or (named is None and not docker.is_cgroup_v2):
        return Finding(OK, CGROUP, "Docker uses the cgroup driver cgroupfs: containers keep their GPU.")
    why = "is set in /etc/docker/daemon.json" if named else "is Docker's default on cgroup v2"
    return Finding(WARN, CGROUP, f"The systemd cgroup driver {why}: {_RELOAD_TRAP}.", _RELOAD_CURE)


def _missing(driver: Driver, board: Board, nodes: Nodes) -> Iterator[Finding]:
    if not nodes.missing:
        return
    seen = f"{', '.join(nodes.missing)} {'is' if len(nodes.missing) == 1 else 'are'} missing."
    if board.is_container:
        advice = "See the line `container`."
    elif driver.is_nvgpu:
        advice = "Look for nvgpu and nvmap in `sudo dmesg`; after an upgrade of JetPack, reboot."
    elif nodes.missing == ("/dev/nvidia-uvm",):
        advice = "sudo nvidia-modprobe -u -c=0 (or: sudo modprobe nvidia_uvm); nvidia-persistenced keeps it at boot."
    elif driver.is_loaded:
        advice = "sudo nvidia-modprobe -u -c=0 makes them; nvidia-persistenced keeps them at boot."
    else:
        advice = "They come with the driver: see the line `driver`."
    yield Finding(FAIL, NODES, seen, advice)


def _shut(
    node: Node, person: Person, user: str, groups: Mapping[int, str], board: Board, *, is_as_engine: bool
) -> Finding | None:
    """What keeps the engine from this node; None when nothing does."""
    owner = groups.get(node.gid, f"gid {node.gid}")
    if not node.lets_in(person):
        cure = (
            f"sudo usermod -aG {owner} {user}, then start the service anew."
            if node.mode & 0o060 == 0o060 and node.gid != 0
            else "Give the group read and write (NVIDIA's module: option NVreg_DeviceFileMode=0666, or a udev rule)."
        )
        if board.is_container:
            cure = f"Start the container with --group-add {node.gid}, or as root."
        return Finding(
            FAIL, NODES, f"{node.path} has mode {node.mode:04o}, group {owner}: {user} may not open it.", cure
        )
    if node.outcome is None or node.outcome == 0:
        return None
    if node.outcome == HANGS:
        return Finding(
            FAIL,
            NODES,
            f"An open of {node.path} hangs in the driver.",
            "Restarting Ollama does not help; look for NVRM in `sudo dmesg` and reboot.",
        )
    if node.outcome == errno.EACCES and not is_as_engine:
        return None  # this shell may not, the engine may
    name = errno.errorcode.get(node.outcome, str(node.outcome))
    if node.outcome in (errno.EPERM, errno.EACCES):
        cure = (
            "Recreate the container: a restart inside it does not help."
            if board.is_container
            else ("Let the service have it: DeviceAllow= of its unit, or none at all.")
        )
        return Finding(
            FAIL,
            NODES,
            f"{node.path} is refused ({name}) though its mode allows it: a device cgroup says no.",
            cure,
        )
    return Finding(
        FAIL,
        NODES,
        f"The driver refuses to open {node.path}: {name}, {os.strerror(node.outcome)}.",
        "The card does not answer its driver: look for NVRM in `sudo dmesg`; a reset or a reboot may bring it back.",
    )


def _capabilities(driver: Driver, environ: Mapping[str, str]) -> Finding:
    given = environ.get("NVIDIA_DRIVER_CAPABILITIES", "").replace(" ", "").split(",")
    has_cuda = any(library.name.startswith("libcuda") for library in driver.libraries)
    if not has_cuda and given != [""] and not {"all", "compute"} & set(given):
        return Finding(
            FAIL,
            CONTAINER,
            f"NVIDIA_DRIVER_CAPABILITIES is {','.join(given)!r}, without compute: CUDA's library was left out.",
            "Set it to compute,utility and create the container anew.",
        )
    return Finding(OK, CONTAINER, "The container was given the device nodes of its GPU.")


def _own_scope(board: Board) -> Finding:
    if _SYSTEMD_SCOPE.search(board.groups_path):
        return Finding(WARN, CGROUP, f"This container lies in a systemd scope: {_RELOAD_TRAP}.", _RELOAD_CURE)
    if _CGROUPFS_PATH.search(board.groups_path):
        return Finding(OK, CGROUP, "This container lies in a group of the cgroup driver cgroupfs.")
    seen = "The host's cgroup driver is not to be seen from inside; on the host: docker info -f '{{.CgroupDriver}}'."
    return Finding(SKIP, CGROUP, seen)


def _cgroup_driver(settings: Mapping[str, object]) -> str | None:
    options = settings.get("exec-opts")
    for option in options if isinstance(options, list) else ():
        name, _, value = str(option).partition("=")
        if name == "native.cgroupdriver":
            return value
    return None


def _knows_nvidia(settings: Mapping[str, object]) -> bool:
    runtimes = settings.get("runtimes")
    return isinstance(runtimes, dict) and "nvidia" in runtimes
