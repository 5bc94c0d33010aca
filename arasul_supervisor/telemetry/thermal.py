"""Temperatures of the board's thermal zones. A read can enter firmware and block: never call this on the loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NUMBER: Final = re.compile(r"\d+$")


def read_temperatures(root: Path) -> Mapping[str, float | None]:
    """°C by zone name; None where the zone does not answer (a gated one never does). Zones of one name are numbered.

    The name is the zone's type in lower case without `-therm` or `-thermal` (facts/gpu.md §4).
    """
    found: dict[str, float | None] = {}
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=_number)
    for zone in zones:
        kind = read_text(zone / "type")
        if not kind:
            continue
        name = kind.lower().removesuffix("-thermal").removesuffix("-therm")
        millidegrees = read_int(zone / "temp")
        found[_unused(name, found)] = None if millidegrees is None else millidegrees / 1000
    return found


def _number(zone: Path) -> int:
    match = _NUMBER.search(zone.name)
    return int(match[0]) if match else -1


def _unused(name: str, taken: Mapping[str, object]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
