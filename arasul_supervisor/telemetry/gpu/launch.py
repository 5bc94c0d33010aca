"""Whether there is anything for a child of the telemetry to do, and the start of it. Standard library only.

It lies on the way to the first spawn of the engine, so nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text
from arasul_supervisor.telemetry.gpu.tegra_node import find_node

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@dataclass(frozen=True, slots=True)
class Spawned:
    """A fresh child: its pid, a pidfd, and our ends of its stdin and stdout. All descriptors are the caller's."""

    pid: int
    pidfd: int
    requests_fd: int
    answers_fd: int

    def kill(self) -> None:
        """SIGKILL to it and to whatever a library started in its session. For as long as it is not reaped."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


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


def spawn_child(command: tuple[str, ...], environ: Mapping[str, str] | None = None) -> Spawned:
    """Start the child in its own session, with two pipes and nothing else of ours. Call it from the main thread.

    PDEATHSIG follows the thread that spawned. `posix_spawn` has no object that reaps behind the back of the daemon's
    reaper, and waits for no pipe (facts/process.md §2); what our own parent left inheritable the child closes itself.

    :param environ: the child's whole environment; ours when None
    :raises OSError: no process or descriptor left; a child without a pidfd ends with its stdin
    """
    with ExitStack() as ours, ExitStack() as childs:
        child_in, requests_fd = os.pipe()
        childs.callback(os.close, child_in)
        ours.callback(os.close, requests_fd)
        answers_fd, child_out = os.pipe()
        childs.callback(os.close, child_out)
        ours.callback(os.close, answers_fd)
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ if environ is None else environ,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, child_in, 0),
                (os.POSIX_SPAWN_DUP2, child_out, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ),
            setsid=True,
        )
        os.set_blocking(requests_fd, False)
        os.set_blocking(answers_fd, False)
        spawned = Spawned(pid, os.pidfd_open(pid), requests_fd, answers_fd)
        ours.pop_all()
        return spawned


def reap(pidfd: int) -> str | None:
    """Take the exit status if there is one; how it ended in a word, None while it lives."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return "reaped by somebody else"
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return f"exit code {ended.si_status}"
    try:
        return signal.Signals(ended.si_status).name
    except ValueError:  # a real-time signal
        return f"signal {ended.si_status}"
