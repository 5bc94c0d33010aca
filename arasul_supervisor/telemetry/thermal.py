"""Thermal zones with their limits, and the alerts of a board that slows itself down (facts/gpu.md §4).

A read can enter firmware and block: never call this on the loop.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in, read_int, read_name, read_or_errno, to_int

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NUMBER: Final = re.compile(r"\d+$")
_PLAUSIBLE_C: Final = (-100.0, 200.0)  # -256 °C is what some drivers say of a gated domain
_FOLDER: Final = "sys/class/thermal"


@dataclass(frozen=True, slots=True)
class Limits:
    """Trip points of a zone in °C: where the board begins to slow down, and where it switches itself off."""

    passive: float | None
    critical: float | None


@dataclass(frozen=True, slots=True)
class Zone:
    """One thermal zone: its name, the folder to read it from, and its limits where it has any."""

    name: str
    folder: Path
    limits: Limits | None


@dataclass(frozen=True, slots=True)
class ZoneReading:
    """°C; None with `is_gated` when the domain is without power, None alone when the read failed."""

    celsius: float | None
    is_gated: bool = False


def find_zones(root: Path) -> tuple[Zone, ...]:
    """All zones by name, in the order of their numbers; a second one of the same name is numbered.

    The name is the zone's type in lower case without `-therm` or `-thermal`.
    """
    found: dict[str, Zone] = {}
    for folder in _numbered(root / _FOLDER, "thermal_zone"):
        kind = read_name(folder / "type")
        if kind:
            name = _unused(kind.lower().removesuffix("-thermal").removesuffix("-therm"), found)
            found[name] = Zone(name, folder, _limits(folder))
    return tuple(found.values())


def read_zone(zone: Zone) -> ZoneReading:
    """One look; a gated zone answers EAGAIN every time, so nothing is tried twice."""
    text, error = read_or_errno(zone.folder / "temp")
    millidegrees = to_int(text)
    if millidegrees is None:
        return ZoneReading(None, is_gated=error == errno.EAGAIN)
    celsius = millidegrees / 1000
    return ZoneReading(celsius if _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1] else None)


def find_alerts(root: Path) -> Mapping[str, Path]:
    """The file of each alert by its name: `cpu`, `gpu`, `soc0`, …, `hot-surface`; above 0 it slows down now."""
    found: dict[str, Path] = {}
    for folder in _numbered(root / _FOLDER, "cooling_device"):
        kind = read_name(folder / "type") or ""
        if kind.endswith("-alert"):
            name = kind.removesuffix("-alert").removesuffix("-throttle")
            found[_unused(name, found)] = folder / "cur_state"
    return found


def _limits(folder: Path) -> Limits | None:
    """Taken by type, for their order differs; 0 is a slot that is not used."""
    by_type: dict[str, float] = {}
    for name in names_in(folder):
        if name.startswith("trip_point_") and name.endswith("_type"):
            kind = read_name(folder / name)
            millidegrees = read_int(folder / f"{name.removesuffix('_type')}_temp")
            if kind and millidegrees is not None and millidegrees > 0:
                by_type[kind] = min(millidegrees / 1000, by_type.get(kind, float("inf")))
    passive, critical = by_type.get("passive"), by_type.get("critical")
    return None if passive is None and critical is None else Limits(passive, critical)


def _numbered(folder: Path, prefix: str) -> list[Path]:
    names = (name for name in names_in(folder) if name.startswith(prefix))
    return [folder / name for name in sorted(names, key=_number)]


def _number(name: str) -> int:
    match = _NUMBER.search(name)
    return int(match[0]) if match else -1


def _unused(name: str, taken: Mapping[str, object]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
