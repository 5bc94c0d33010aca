"""Looks at a board as the daemon makes them, without its children, threads and clock: all that is known of one tree."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from arasul_supervisor.telemetry.board import BoardReader
from arasul_supervisor.telemetry.board_watch import BoardWatch, watch_board
from arasul_supervisor.telemetry.gpu.carry_over import carry_over
from arasul_supervisor.telemetry.gpu.collect_tegra import TegraCollector
from arasul_supervisor.telemetry.gpu.readings import SourceReport
from arasul_supervisor.telemetry.gpu.tegra_lines import board_line, tegra_readings_of
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_view import free_gpu_bytes, gpu_entries, view_gpus
from arasul_supervisor.telemetry.history import sample_of
from arasul_supervisor.telemetry.host import cpu_percent, read_host
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.mapped_figures import Mapped
from arasul_supervisor.telemetry.stats import Known, Look, stats_payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.host import CpuTimes

STALE_AFTER_S: Final = 15.0
KEEP_S: Final = 15.0
_TEXTS: Final = (
    *(
        "id",
        "name",
        "uuid",
        "pci_bus_id",
        "kind",
        "state",
        "driver_version",
        "memory_kind",
        "source",
        "detail",
    ),
    *("model", "soc", "l4t", "jetpack", "cuda", "kernel", "label", "chip", "total_scope"),
)
_FLAGS: Final = ("throttled", "stale", "alarm", "enabled", "container")
_WHOLE: Final = (
    "pid",
    "index",
    "cpus",
    "limit",
    "current",
    "kills_total",
    "cgroup_kills_total",
    "child_pid",
    "rpm",
)


@dataclass(slots=True)
class Looker:
    """The Tegra child and the sampler over one root; each look remembers the one before, as they do."""

    root: Path
    collector: TegraCollector = field(init=False)
    reader: BoardReader = field(init=False)
    report: SourceReport | None = None
    watch: BoardWatch = field(default_factory=BoardWatch)
    ticks: CpuTimes | None = None
    line_bytes: int = 0

    def __post_init__(self) -> None:
        self.collector, self.reader = TegraCollector(self.root), BoardReader(self.root)

    def look(self, now_mono: float) -> Any:  # Any: JSON
        """The body of `/api/stats` as a caller gets it, after one look by the child and by the daemon."""
        text = json.dumps(self.collector.sample(now_mono), separators=(",", ":"), allow_nan=False)
        self.line_bytes = len(text)
        report = self._take(json.loads(text), now_mono)
        machine, host = read_machine(self.root), read_host(self.root)
        load, self.ticks = cpu_percent(self.ticks, host.cpu), host.cpu
        look = Look(now_mono, 1.76e9, host, load, engine=None, own=None)
        view = view_gpus((report,), now_mono=now_mono, stale_after_s=STALE_AFTER_S)
        board = report.board if machine.is_jetson else self.reader.read(now_mono)
        self.watch = watch_board(
            self.watch, board, memory=host.memory, is_unified=bool(view.cards), now_mono=now_mono
        )
        payload = stats_payload(Known(now_mono, view, machine, look, look, board, None, Mapped({}), None, {}))
        check_gpus(view, self.watch)
        free_gpu_bytes(gpu_entries(view, host.memory))
        sample_of(payload, taken_at=1.76e9)
        return json.loads(msgspec.json.encode(payload))

    def _take(self, line: dict[str, Any], now_mono: float) -> SourceReport:  # Any: JSON
        before = self.report
        readings = carry_over(
            before.readings if before else (),
            tegra_readings_of(line),
            taken_mono=before.taken_mono or now_mono if before else now_mono,
            now_mono=now_mono,
            keep_s=KEEP_S,
        )
        self.report = SourceReport(
            "tegra", "ok", "", 0.0, has_answered=True, has_worked=True, taken_mono=now_mono,
            readings=readings, board=board_line(line),
        )  # fmt: skip
        return self.report


def figures_of(told: Any, path: str = "") -> Mapping[str, object]:  # Any: JSON
    """Every leaf by its path; what has a label or a source is found by that, not by its place in a list."""
    return dict(_leaves(told, path))


def wrong_types(told: Any) -> list[str]:  # Any: JSON
    """The leaves that are neither null nor of the type that their name declares."""
    return [f"{path} = {value!r}"[:200] for path, value in _leaves(told, "") if not _is_declared(path, value)]


def _leaves(told: Any, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(told, dict):
        parts = list(told.items())
    elif isinstance(told, list):
        parts = [(_name_of(number, part), part) for number, part in enumerate(told)]
    else:
        yield path, told
        return
    for key, part in parts:
        yield from _leaves(part, f"{path}/{key}")


def _name_of(number: int, part: Any) -> str:  # Any: JSON
    return str(part.get("label") or part.get("source") or number) if isinstance(part, dict) else str(number)


def _is_declared(path: str, value: object) -> bool:
    *parents, key = path.split("/")
    if value is None:
        return True
    if parents and parents[-1].endswith("kept_age_s"):
        return type(value) in (int, float)
    if "sources" in parents or "throttle_reasons" in parents or key in _TEXTS:
        return isinstance(value, str)
    if key in _FLAGS:
        return isinstance(value, bool)
    if key in _WHOLE or key.endswith("_bytes") or "overcurrent" in parents or "throttle_alerts" in parents:
        return type(value) is int
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]  # it is one of both
