"""What a daemon holds: memory, descriptors, threads, tasks; and whether that grows."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon

WORDS: Final = ("rss_kib", "fds", "threads", "tasks")
MAY_GROW: Final = {"rss_kib": 6 * 1024.0, "fds": 4.0, "threads": 3.0, "tasks": 4.0}
"""From the second quarter of a soak to the last, between the medians: rings and books fill up to their bounds."""
DUMP_LIMIT_S: Final = 5.0


@dataclass(slots=True)
class OwnLog:
    """The lines of the daemon itself, read on and on: those of its engine are a hundred times as many."""

    daemon: Daemon
    events: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON
    other: list[str] = field(default_factory=list)  # what is no line of a log, a traceback say
    _read_bytes: int = 0

    def read_on(self) -> OwnLog:
        """With what was written since."""
        with (self.daemon.folder / "daemon.out").open("rb") as file:
            file.seek(self._read_bytes)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if '"source":"arasul"' in line:
                self.events.append(json.loads(line))
            elif '"source":"ollama"' not in line:
                self.other.append(line)
        return self

    def of(self, event: str) -> list[dict[str, Any]]:  # Any: JSON
        """The lines of that event."""
        return [line for line in self.events if line.get("event") == event]


@dataclass(slots=True)
class Vitals:
    """Samples of one daemon, one list for each word."""

    daemon: Daemon
    log: OwnLog
    last_mono: float = 0.0
    samples: dict[str, list[float]] = field(default_factory=lambda: {word: [] for word in WORDS})

    def sample(self) -> None:
        """Look once."""
        self.last_mono = time.monotonic()
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        for word, name in (("rss_kib", "VmRSS"), ("threads", "Threads")):
            found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
            assert found, status
            self.samples[word].append(float(found[1]))
        self.samples["fds"].append(float(len(os.listdir(f"/proc/{self.daemon.pid}/fd"))))
        self.samples["tasks"].append(float(self._tasks()))

    def growths(self) -> dict[str, tuple[float, float]]:
        """For each word the medians of the second quarter and of the last."""
        found = {}
        for word, values in self.samples.items():
            quarter = max(1, len(values) // 4)
            found[word] = (
                statistics.median(values[quarter : 2 * quarter] or values),
                statistics.median(values[-quarter:]),
            )
        return found

    def problems(self) -> list[str]:
        """What grew beyond what it may."""
        return [
            f"{word} grew from {early:.0f} to {late:.0f}"
            for word, (early, late) in self.growths().items()
            if late - early > MAY_GROW[word]
        ]

    def _tasks(self) -> int:
        """By the dump that SIGUSR1 asks for."""
        before = len(self.log.read_on().of("state_dump"))
        self.daemon.signal(signal.SIGUSR1)
        end = time.monotonic() + DUMP_LIMIT_S
        while time.monotonic() < end:
            dumps = self.log.read_on().of("state_dump")
            if len(dumps) > before:
                return len(dumps[-1]["tasks"])
            time.sleep(0.05)
        raise TimeoutError(f"no dump of the daemon's state within {DUMP_LIMIT_S:g} s of SIGUSR1")
