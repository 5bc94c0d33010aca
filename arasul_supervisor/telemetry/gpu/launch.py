"""Whether there is anything for the NVML child to do, and the start of that child. Standard library only.

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

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROGRAM: Final = Path(__file__).with_name("nvml_child.py")
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
class DriverSigns:
    """What the file system says of an NVIDIA driver, without opening its library."""

    is_there: bool
    module_version: str | None  # of the loaded kernel module


def look_for_driver(root: Path) -> DriverSigns:
    """One cheap look; reads sysfs, so not for the loop."""
    version = read_text(root / "sys/module/nvidia/version")
    return DriverSigns(
        is_there=version is not None or any(os.path.exists(root / sign) for sign in _SIGNS),
        module_version=version or None,
    )


@dataclass(frozen=True, slots=True)
class Spawned:
    """A fresh child: its pid, a pidfd, and our ends of its stdin and stdout. All descriptors are the caller's."""

    pid: int
    pidfd: int
    requests_fd: int
    answers_fd: int

    def kill(self) -> None:
        """SIGKILL; nothing happens when it is dead already."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return


def child_command() -> tuple[str, ...]:
    """How to run the child. Looks for the bindings on the disk, so not for the loop; does not import them.

    Their folder is told because `-I` hides the user's own site-packages.
    """
    spec = importlib.util.find_spec("pynvml")
    folder = ""
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin)
        folder = str(file.parent.parent if file.name == "__init__.py" else file.parent)
    return (sys.executable, "-I", str(_PROGRAM), str(os.getpid()), folder)


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


def reap(pidfd: int) -> bool:
    """Take the exit status if there is one; True when the process is gone, whoever reaped it."""
    try:
        return os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True
