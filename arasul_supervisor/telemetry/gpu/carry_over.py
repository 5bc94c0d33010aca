"""What a series of looks knows more than one look: kept figures, names of sick cards, since when. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.nvml_codes import SURE_BY_ONE_FIGURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from arasul_supervisor.telemetry.gpu.readings import GpuReading

_TRANSIENT: Final = (10, 20)
_FIGURES_OF: Final[Mapping[str, tuple[str, ...]]] = {  # what a refused question leaves empty
    "memory": ("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"),
    "power_mw": ("power_watts",),
    "power_limit_mw": ("power_limit_watts",),
    "event_reasons": ("throttled", "throttle_reasons"),
    "compute": ("processes", "memory_by_processes_bytes"),
}
_FIGURES: Final = (
    *(
        "utilization_percent",
        "temperature_c",
        "power_watts",
        "power_limit_watts",
        "clock_mhz",
        "clock_max_mhz",
    ),
    *("throttled", "throttle_reasons", "fan_percent", "processes", "memory_by_processes_bytes", "mig"),
    *("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"),
)


def carry_over(
    before: Sequence[GpuReading],
    now: Sequence[GpuReading],
    *,
    taken_mono: float,
    now_mono: float,
    keep_s: float,
) -> tuple[GpuReading, ...]:
    """The new readings, with what the former look still has to say.

    A figure that failed in passing (codes 10, 20) keeps its value for `keep_s`; a sick device keeps the identity that
    it can no longer tell, and nothing else; a device that is not listed any more is lost. A card that has told of
    memory of its own does not become one that shares the host's.

    :param taken_mono: when `before` was taken
    """
    by_key = {reading.key: reading for reading in before}
    by_place = {(reading.source, reading.index): reading for reading in before}
    carried: list[GpuReading] = []
    for reading in now:
        is_named = reading.uuid is not None or reading.node is not None
        place = (reading.source, reading.index)
        former = by_key.get(reading.key) if is_named else by_place.get(place)
        seen = reading if former is None else _named_by(former, reading)
        if seen.state in SURE_BY_ONE_FIGURE:
            seen = replace(seen.identity(), refusals=reading.refusals)
        elif former is not None:
            seen = replace(seen, is_unified=seen.is_unified and not former.has_own_memory)
            seen = _keep(former, seen, taken_mono=taken_mono, oldest_mono=now_mono - keep_s)
        carried.append(_since(seen, former, now_mono))
    listed = {reading.key for reading in carried}
    gone = (former for former in before if former.key not in listed)
    return (*carried, *(_unlisted(former) for former in gone if former.uuid or former.source == "sysfs"))


def _unlisted(gone: GpuReading) -> GpuReading:
    """A GPU that is not told of any more; a Jetson's has no other cause than that its driver is gone."""
    return replace(gone.identity(), state="lost" if gone.uuid else "no_driver", is_unlisted=True)


def _named_by(former: GpuReading, now: GpuReading) -> GpuReading:
    """`now`, with the identity that this look could not tell."""
    return replace(
        now,
        name=now.name or former.name,
        uuid=now.uuid or former.uuid,
        pci_bus_id=now.pci_bus_id or former.pci_bus_id,
        driver_version=now.driver_version or former.driver_version,
        is_unified=now.is_unified or (now.name is None and former.is_unified),
    )


def _keep(former: GpuReading, now: GpuReading, *, taken_mono: float, oldest_mono: float) -> GpuReading:
    """`now`, with the former value of each figure that failed in passing, unless that value is too old."""
    values: dict[str, Any] = {}  # Any: field values of different types
    since: dict[str, float] = {}
    for figure in _emptied((question for question, code in now.refusals.items() if code in _TRANSIENT)):
        value = getattr(former, figure, None)
        figure_mono = former.kept_since_mono.get(figure, taken_mono)
        if value is not None and getattr(now, figure) is None and figure_mono >= oldest_mono:
            values[figure] = value
            since[figure] = figure_mono
    return replace(now, **values, kept_since_mono=since)


def _emptied(questions: Iterable[str]) -> list[str]:
    """The figures that these questions leave empty; without its handle nothing can be asked of a card."""
    asked = set(questions)
    if "handle" in asked:
        return list(_FIGURES)
    emptied = (figure for question in asked for figure in _FIGURES_OF.get(question, (question,)))
    return [figure for figure in emptied if figure in _FIGURES]


def _since(reading: GpuReading, former: GpuReading | None, now_mono: float) -> GpuReading:
    """`reading` with what only a series of looks can tell: since when it throttles, and that it has worked."""
    has_own_memory = reading.memory_total_bytes is not None or bool(former and former.has_own_memory)
    has_worked = reading.state in ("ok", "gated") or (former is not None and former.has_worked)
    since = former.throttled_since_mono if former is not None else None
    if since is None:
        since = now_mono
    return replace(
        reading,
        has_own_memory=has_own_memory,
        has_worked=has_worked,
        throttled_since_mono=since if reading.throttled else None,
    )
