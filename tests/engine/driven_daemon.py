"""A daemon over a real engine that is driven into a fault, and what its public face says of it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.engine.fault_ground import Ground, Start
from tests.engine.log_faults import FAULTS
from tests.engine.processes import wait_until
from tests.engine.registry import start_registry
from tests.engine.store import install_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.store import ModelFiles

READ_LIMIT_S = 10.0


class Drive(Protocol):
    """Starts a daemon over a real engine of its own, as that fault wants it; `Driven.drive` brings it about."""

    def __call__(self, fault: str, env: Mapping[str, str] | None = None) -> Driven: ...


@dataclass(slots=True)
class Driven:
    """The daemon, and the ground on which the fault is brought about at the engine below it."""

    fault: str
    daemon: Daemon
    ground: Ground
    _looks: Iterator[int] = field(default_factory=count)

    def drive(self) -> Driven:
        """Bring the fault about, and wait until all that the engine said of it is read."""
        self.daemon.wait_ready(limit_s=60)
        FAULTS[self.fault].drive(self.ground)
        return self.read_all()

    def read_all(self) -> Driven:
        """Wait until the daemon has read what the engine said so far, and `/health` has been judged since.

        An engine that died is waited for until the next one answers.
        """
        mark = f"/read-to-here-{next(self._looks)}"
        wait_until(lambda: self.ground.request("GET", mark), limit_s=READ_LIMIT_S, what="the engine answers")
        self.daemon.wait_for(lambda: mark in self._recent(), what="the last line read", limit_s=READ_LIMIT_S)
        read_at = self._health()["timestamp"]
        self.daemon.wait_for(
            lambda: self._health()["timestamp"] > read_at, what="a new judgement", limit_s=READ_LIMIT_S
        )
        return self

    def status(self) -> str:
        """The word of /health."""
        return str(self._health()["status"])

    def reason(self) -> str:
        """The sentence of /health."""
        return str(self._health()["reason"])

    def errors(self) -> dict[str, Any]:  # Any: tests look into it freely
        """The point `errors` of /health."""
        point: dict[str, Any] = self._health()["checks"]["errors"]
        return point

    def lines_of(self, outcome: str) -> list[dict[str, Any]]:  # Any: tests look into it freely
        """The engine's lines that were taken for this outcome, as /api/logs shows them."""
        page = self.daemon.get(f"/api/logs?lines=5000&outcome={outcome}").json()
        lines: list[dict[str, Any]] = page["lines"]
        return lines

    def has_said(self, text: str) -> bool:
        """Whether one of the engine's lines holds the text."""
        page = self.daemon.get("/api/logs?lines=5000").json()
        return any(text in line["text"] for line in page["lines"])

    def told(self) -> list[dict[str, Any]]:  # Any: tests look into it freely
        """The events `engine_outcome` on the daemon's stdout, oldest first."""
        said = (self.daemon.folder / "daemon.out").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in said if '"event":"engine_outcome"' in line]

    def _health(self) -> dict[str, Any]:  # Any: tests look into it freely
        view: dict[str, Any] = self.daemon.get("/health").json()
        return view

    def _recent(self) -> str:
        return self.daemon.get("/api/logs?lines=50").body.decode(errors="replace")


@pytest.fixture
def at_end() -> Iterator[contextlib.ExitStack]:
    """What is undone when the daemons of the test are gone."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def driven(
    at_end: contextlib.ExitStack,
    daemon: DaemonFactory,
    engine_binary: Path,
    model_files: ModelFiles,
    tmp_path: Path,
) -> Drive:
    """`driven("port_taken")`: see `Drive`."""

    numbers = count()

    def start(fault: str, env: Mapping[str, str] | None = None) -> Driven:
        folder, registry = tmp_path / f"{fault}-{next(numbers)}", start_registry()
        at_end.callback(registry.stop)
        store = folder / "store"
        install_model(store, "tiny", model_files())
        made = daemon.prepare(engine=engine_binary, models=store, env={"OLLAMA_NOPRUNE": "1", **(env or {})})
        how = Start(folder, engine_binary, store, made.engine_port, made.environment, at_end)
        FAULTS[fault].prepare(how)
        made.environment["ARASUL_OLLAMA"], made.under = str(how.binary), how.under
        made.start()
        return Driven(fault, made, Ground(how.port, how.store, made.marker, model_files, registry))

    return start
