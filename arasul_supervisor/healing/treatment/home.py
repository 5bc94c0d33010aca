"""Who starts the daemon anew when it leaves, and whether the GPU comes back with that start. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TINY_INITS: Final = frozenset({"tini", "tini-static", "docker-init", "dumb-init", "catatonit", "podman-init"})
"""Names of process 1 that pass on the end of their only child, with its exit code."""


class HomeKind(str, Enum):
    """What the daemon lives in."""

    CONTAINER = "container"
    SYSTEMD = "systemd"
    SUPERVISORD = "supervisord"
    SHELL = "shell"


@dataclass(frozen=True, slots=True)
class Home:
    """Where the daemon runs.

    `can_start_anew`: leaving makes it start again with the GPU's devices given to it anew. Of a container that holds
    as far as its restart policy lets it start at all, which cannot be seen from inside; ours do.
    `remedy`: what a person does where it cannot, one sentence.
    """

    kind: HomeKind
    can_start_anew: bool
    remedy: str


def home_of(
    environ: Mapping[str, str], *, pid: int, parent_pid: int, init: str | None, is_container: bool
) -> Home:
    """The home of this process.

    :param environ: its environment as it was at the launch
    :param pid: its number, in its own namespace
    :param parent_pid: of the process that started it, asked at the launch
    :param init: the name of process 1, `/proc/1/comm`
    :param is_container: whether the whole box is one (`Machine.is_container`)
    """
    if pid == 1 or (parent_pid == 1 and init in TINY_INITS):
        return Home(HomeKind.CONTAINER, True, _RESTART_CONTAINER)
    outside = _RESTART_CONTAINER if is_container else _RESTART_SERVICE
    if "SUPERVISOR_ENABLED" in environ:
        return Home(HomeKind.SUPERVISORD, False, outside)
    if _is_main_process_of_a_unit(environ, pid, parent_pid, init):
        return Home(HomeKind.SYSTEMD, not is_container, outside)
    return Home(HomeKind.SHELL, False, outside)


_RESTART_CONTAINER: Final = (
    "Restart the container (docker restart llm-service), which gives it the GPU's devices anew."
)
_RESTART_SERVICE: Final = "Stop the daemon, reload nvidia_uvm (or reboot), and start it again."


def _is_main_process_of_a_unit(
    environ: Mapping[str, str], pid: int, parent_pid: int, init: str | None
) -> bool:
    """systemd ≥ 248 names the process that it started; an older one must be the parent.

    A shell below a unit inherits these variables, with another pid in them.
    """
    started = environ.get("SYSTEMD_EXEC_PID")
    if started is not None:
        return started == str(pid)
    return (
        parent_pid == 1 and init == "systemd" and ("NOTIFY_SOCKET" in environ or "INVOCATION_ID" in environ)
    )
