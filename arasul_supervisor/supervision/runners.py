"""The model runners in the engine's tree: one process per loaded model, on both engine generations.

≥ 0.30: `llama-server --model <blob> --port N …`; ≤ 0.29: `ollama runner --model <blob> --port N`. A discovery
process has no `--model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision.process_reading import argv_of, children_of, runner_arguments
from arasul_supervisor.supervision.process_signals import end_processes
from arasul_supervisor.supervision.process_stat import stat_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.supervision.process_looks import Identity
    from arasul_supervisor.supervision.process_reading import RunnerArguments

_LINE_BYTES: Final = 256


def kill_runners(engine_pid: int, *, bound_s: float) -> frozenset[Identity]:
    """SIGKILL every runner below the engine and wait until they are dead; those that were ended.

    Requests that wait are answered by a new runner. Blocks for up to `bound_s` seconds: call it in a thread.
    """
    found = [(pid, stat.start_ticks) for pid in descendants(engine_pid) if (stat := stat_of(pid)) is not None]
    return end_processes([one for one in found if _arguments(one[0]) is not None], bound_s=bound_s).killed


def descendants(pid: int) -> list[int]:
    """Pids below `pid`, parents before children; empty when it is gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def runner_blobs(engine_pid: int) -> Mapping[int, str]:
    """Pid and weights, `sha256:<64 hex>`, of every runner below the engine, from the spawn on: also while it loads.

    A runner of a split model names another file and is not among them. Blocks while `/proc` does, for the argv is
    read through a lock that a driver may hold: call it in a thread.
    """
    told = ((pid, _arguments(pid)) for pid in descendants(engine_pid))
    return {pid: arguments.blob for pid, arguments in told if arguments and arguments.blob}


def living_names(pid: int) -> dict[int, str]:
    """Pid and program (15 letters at most) of what lives below `pid`; what has begun to exit is left out."""
    below = ((child, stat_of(child)) for child in descendants(pid))
    return {child: stat.command for child, stat in below if stat is not None and not stat.is_exiting}


def has_ended(pid: int) -> bool:
    """Whether that process is gone or has begun to exit."""
    stat = stat_of(pid)
    return stat is None or stat.is_exiting


def newest_pid() -> int | None:
    """The number that the kernel gave out last, to a process or a thread; None where it does not tell.

    As long as it stays the same nothing has been started: 20 µs that save a walk through the tree.
    `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206`.
    """
    try:
        with open("/proc/loadavg", "rb", buffering=0) as file:
            number = file.read(_LINE_BYTES).rpartition(b" ")[2].strip()
    except OSError:
        return None
    return int(number) or None if number.isdigit() else None  # 0 in a sandbox that only plays a kernel


def _children(pid: int) -> list[int]:
    try:
        return children_of(pid)
    except OSError:  # no descriptor is left
        return []


def _arguments(pid: int) -> RunnerArguments | None:
    try:
        return runner_arguments(argv_of(pid))
    except OSError:  # no descriptor is left
        return None
