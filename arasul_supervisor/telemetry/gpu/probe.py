"""GPU memory once, before the engine's first start: how much there is and how much is free.

Standard library only, synchronous, bounded: it stands before the first spawn.
"""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from arasul_supervisor.telemetry.gpu.launch import child_command, look_for_driver, reap, spawn_child
from arasul_supervisor.telemetry.gpu.nvml_lines import readings_of
from arasul_supervisor.telemetry.host import read_memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.gpu.launch import Spawned
    from arasul_supervisor.telemetry.gpu.readings import GpuReading

_FAREWELL_S: Final = 0.2  # a healthy child is gone 2 ms after SIGKILL


class GpuSettings(Protocol):
    """What telemetry needs to know of the settings."""

    @property
    def gpu(self) -> str:
        """`auto`, `nvml`, `tegra` or `none`."""

    @property
    def sysroot(self) -> Path:
        """What stands for `/`."""


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of one GPU. Where it is the host's, available is MemAvailable."""

    total_bytes: int
    available_bytes: int


def probe_gpu_memory(
    settings: GpuSettings, *, timeout_s: float = 2.0, environ: Mapping[str, str] | None = None
) -> tuple[GpuMemory, ...]:
    """Memory of each GPU whose memory is known; empty at once where there is no sign of an NVIDIA driver.

    A driver that does not answer within `timeout_s` gives an empty answer too, and its child is left behind as an
    orphan that the daemon's reaper buries. Call it from the main thread.
    """
    if settings.gpu not in ("auto", "nvml"):
        return ()
    if settings.gpu == "auto" and not look_for_driver(settings.sysroot).is_there:
        return ()
    try:
        child = spawn_child(child_command(), environ)
    except OSError:
        return ()
    try:
        os.write(child.requests_fd, b"\n")
        line = _sample_line(child, deadline_mono=time.monotonic() + timeout_s)
    except (OSError, ValueError):  # it died at once, or wrote no JSON
        line = None
    finally:
        _bury(child)
    if line is None:
        return ()
    readings = readings_of(line)
    found = (_memory(reading, settings.sysroot) for reading in readings)
    return tuple(memory for memory in found if memory is not None)


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


def _memory(reading: GpuReading, root: Path) -> GpuMemory | None:
    if reading.is_unified:
        host = read_memory(root)
        return None if host is None else GpuMemory(host.total_bytes, host.available_bytes)
    if reading.memory_total_bytes is None or reading.memory_free_bytes is None:
        return None
    return GpuMemory(reading.memory_total_bytes, reading.memory_free_bytes)
