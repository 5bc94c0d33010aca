"""Our own look at registries without the daemon's reaper: its children are reaped by the look alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.ollama.pulls import registry
from arasul_supervisor.ollama.pulls.registry import LOOK_S, Registry

if TYPE_CHECKING:
    from arasul_supervisor.event_log import EventLog

PROGRAM = Path(registry.__file__).with_name("registry_child.py")


def looks(log: EventLog, *, timeout_s: float = LOOK_S, program: Path = PROGRAM) -> Registry:
    """A look over children that nobody else knows of."""
    return Registry(
        SystemClock(),
        log,
        own=lambda _pid: None,
        disown=lambda _pid: None,
        timeout_s=timeout_s,
        program=program,
    )
