"""What goes wrong with a single request to the fixture registry, ordered ahead and counted when it was met."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["manifest", "HEAD", "GET", "range"]
KINDS: Final[tuple[Kind, ...]] = ("manifest", "HEAD", "GET", "range")


@dataclass(frozen=True, slots=True)
class Fault:
    """The fate of one request.

    `refuse`: that status, with `Retry-After` when there is one. `drop` and `reset`: the connection ends after so many
    bytes, by FIN (Ollama keeps what it got) or by RST (Ollama begins the part anew). `stall`: silence after so many
    bytes. `slow`: that many bytes per second. `drop`, `reset` and `stall` of what is no range come before any byte.
    """

    kind: Kind
    how: Literal["refuse", "drop", "reset", "stall", "slow"]
    status: int = 503
    retry_after: str | None = None
    after_bytes: int = 0
    bytes_per_s: float = 0.0
    spares_the_daemon: bool = False  # its own looks at manifests take no part

    @property
    def label(self) -> str:
        """The name that it is counted by: `range drop`, `manifest 503 retry-after`."""
        if self.how != "refuse":
            return f"{self.kind} {self.how}"
        return f"{self.kind} {self.status}{' retry-after' if self.retry_after else ''}"


class FaultQueue:
    """Faults that wait for the next request of their kind, first come first served; any thread may call."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self._waiting: list[Fault] = []
        self._turn = threading.Lock()

    def add(self, fault: Fault, *, times: int = 1) -> None:
        """Order it for the next so many requests of its kind."""
        with self._turn:
            self._waiting += [fault] * times

    def take(self, kind: str, *, is_of_daemon: bool) -> Fault | None:
        """The fate of a request that has just come; None: it goes well."""
        with self._turn:
            for fault in self._waiting:
                if fault.kind == kind and not (is_of_daemon and fault.spares_the_daemon):
                    self._waiting.remove(fault)
                    self.met[fault.label] += 1
                    return fault
        return None

    def clear(self) -> None:
        """Forget those that nobody met."""
        with self._turn:
            self._waiting.clear()
