"""On what a figure was taken: the machine, the versions, and how much else it had to do meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).parents[1]
MODEL_NAME = "model name"


def machine_facts() -> dict[str, object]:
    """Cores, processor, memory, kernel, Python, commit, date (UTC) and load of this machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "commit": _commit(),
        "at": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def machine_line(facts: Mapping[str, object]) -> str:
    """The same in one line."""
    return (
        f"{facts['at']}, commit {facts['commit']}: {facts['cores']} cores of {facts['processor']}, "
        f"{facts['architecture']}, Linux {facts['kernel']}, Python {facts['python']}, "
        f"load {facts['load_1min']} before"
    )


@dataclass(frozen=True, slots=True)
class Busy:
    """How busy the whole machine was, in cores; `stolen` cores were given to other virtual machines."""

    used: float
    stolen: float


class BusyMeter:
    """Measures how busy the machine is from its making on."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before = _cpu_seconds()

    def read(self) -> Busy:
        """The mean since the beginning."""
        elapsed_s = max(1e-3, time.monotonic() - self._began_s)
        used, stolen = (now - before for now, before in zip(_cpu_seconds(), self._before, strict=True))
        return Busy(used / elapsed_s, stolen / elapsed_s)


def _cpu_seconds() -> tuple[float, float]:
    """Used and stolen seconds of all cores, from `cpu  user nice system idle iowait irq softirq steal …`."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(MODEL_NAME):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    try:
        ran = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ran.stdout.strip()
