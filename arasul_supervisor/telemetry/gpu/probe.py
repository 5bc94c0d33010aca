"""What NVIDIA's library says, asked once and without the loop.

Standard library only, synchronous, bounded: it stands before the first spawn.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.launch import child_command, folder_of_module, reap, spawn_child
from arasul_supervisor.telemetry.gpu.nvml_lines import readings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.gpu.launch import Spawned
    from arasul_supervisor.telemetry.gpu.readings import GpuReading

_FAREWELL_S: Final = 0.2  # a healthy child is gone 2 ms after SIGKILL


def probe_nvml(
    *, timeout_s: float, environ: Mapping[str, str] | None = None
) -> tuple[GpuReading, ...] | None:
    """What NVIDIA's library says of each card in one sample; empty when it refuses, None when it is silent.

    A child that hangs is left behind as an orphan that the daemon's reaper buries. Call it from the main thread.
    """
    try:
        child = spawn_child(child_command("nvml", (folder_of_module("pynvml"),)), environ)
    except OSError:
        return ()
    deadline_mono = time.monotonic() + timeout_s
    try:
        os.write(child.requests_fd, b"\n")
        line = _sample_line(child, deadline_mono=deadline_mono)
    except (OSError, ValueError):  # it died at once, or wrote no JSON
        line = None
    finally:
        _bury(child)
    if line is None:
        return None if time.monotonic() >= deadline_mono else ()
    return () if line["code"] else readings_of(line)


def _sample_line(
    child: Spawned, *, deadline_mono: float
) -> dict[str, Any] | None:  # Any: JSON of our own child
    """The first `sample` line; None when the child ends or the time is over before it."""
    poll = select.poll()
    poll.register(child.answers_fd, select.POLLIN)
    buffer = b""
    while (left_s := deadline_mono - time.monotonic()) > 0:
        if not poll.poll(left_s * 1000):
            return None
        chunk = os.read(child.answers_fd, 65536)
        if not chunk:
            return None
        *lines, buffer = (buffer + chunk).split(b"\n")
        for text in lines:
            line: dict[str, Any] = json.loads(text)
            if line["kind"] == "sample":
                return line
    return None


def _bury(child: Spawned) -> None:
    child.kill()
    os.close(child.requests_fd)
    os.close(child.answers_fd)
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    if poll.poll(_FAREWELL_S * 1000):
        reap(child.pidfd)
    os.close(child.pidfd)
