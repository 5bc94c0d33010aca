"""What a board tells of itself beside its GPU: temperatures with limits, power, over-current, alerts, fans.

Read in a child on a Jetson, in a thread elsewhere: never on the loop.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.files import read_int
from arasul_supervisor.telemetry.power import (
    Fan,
    Power,
    Rail,
    find_chips,
    read_fans,
    read_overcurrent,
    read_power,
)
from arasul_supervisor.telemetry.thermal import Limits, find_alerts, find_zones, read_zone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.thermal import Zone

_FIND_AGAIN_S: Final = 60.0  # zones and chips appear late at boot, and can be unplugged
_KEEP_S: Final = 15.0  # a readable zone may fail once under load


@dataclass(frozen=True, slots=True)
class BoardFigures:
    """One look. An unknown figure is None; what the board does not have is absent."""

    temperatures_c: Mapping[str, float | None] = field(default_factory=dict)
    temperature_limits_c: Mapping[str, Limits] = field(default_factory=dict)
    power: Power = field(default_factory=Power)
    overcurrent: Mapping[str, int | None] | None = None
    throttle_alerts: Mapping[str, int | None] | None = None
    fans: tuple[Fan, ...] = ()
    kept_age_s: Mapping[str, float] = field(default_factory=dict)  # of temperatures that an earlier look told
    gated_zones: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """The figures as `host` of `/api/stats` shows them. Not by `asdict`, whose deep copies cost 0.5 ms."""
        return {
            "temperatures_c": dict(self.temperatures_c),
            "temperatures_kept_age_s": dict(self.kept_age_s),
            "temperature_limits_c": {
                name: _shown(trips) for name, trips in self.temperature_limits_c.items()
            },
            "power": {**_shown(self.power), "rails": [_shown(rail) for rail in self.power.rails]},
            "overcurrent": self.overcurrent,
            "throttle_alerts": self.throttle_alerts,
            "fans": [_shown(fan) for fan in self.fans],
        }


def _shown(value: Limits | Power | Rail | Fan) -> dict[str, Any]:  # Any: JSON
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def board_of(line: Mapping[str, Any]) -> BoardFigures:  # Any: JSON of our own child
    """The figures back from what `as_json` gave."""
    power = line["power"]
    rails = tuple(Rail(**rail) for rail in power["rails"])
    return BoardFigures(
        temperatures_c=line["temperatures_c"],
        kept_age_s=line["temperatures_kept_age_s"],
        temperature_limits_c={name: Limits(**trips) for name, trips in line["temperature_limits_c"].items()},
        power=Power(rails, power["total_watts"], power["total_scope"]),
        overcurrent=line["overcurrent"],
        throttle_alerts=line["throttle_alerts"],
        fans=tuple(Fan(**fan) for fan in line["fans"]),
    )


class BoardReader:
    """Knows where the board's figures lie, looks for them anew once a minute, and reads them."""

    def __init__(self, root: Path) -> None:
        """Read below `root`; nothing is read yet."""
        self._root = root
        self._find_mono = float("-inf")
        self._last: dict[str, tuple[float, float]] = {}

    def read(self, now_mono: float) -> BoardFigures:
        """One look at everything. Blocks while the board's firmware does."""
        if now_mono - self._find_mono >= _FIND_AGAIN_S:
            self._find_mono = now_mono
            self._zones, self._chips = find_zones(self._root), find_chips(self._root)
            self._alerts = find_alerts(self._root)
        temperatures: dict[str, float | None] = {}
        gated: list[str] = []
        for zone in self._zones:
            temperatures[zone.name] = self._celsius(zone, gated, now_mono)
        return BoardFigures(
            temperatures_c=temperatures,
            temperature_limits_c={zone.name: zone.limits for zone in self._zones if zone.limits},
            power=read_power(self._chips),
            overcurrent=read_overcurrent(self._chips),
            throttle_alerts={name: read_int(path) for name, path in self._alerts.items()} or None,
            fans=read_fans(self._chips),
            kept_age_s=self._kept_age_s(temperatures, now_mono),
            gated_zones=tuple(gated),
        )

    def _celsius(self, zone: Zone, gated: list[str], now_mono: float) -> float | None:
        """The zone's temperature; one that fails in passing keeps its value for a while, a gated one does not."""
        reading = read_zone(zone)
        if reading.celsius is not None:
            self._last[zone.name] = (now_mono, reading.celsius)
            return reading.celsius
        taken_mono, celsius = self._last.get(zone.name, (float("-inf"), 0.0))
        if reading.is_gated:
            gated.append(zone.name)
            self._last.pop(zone.name, None)
            return None
        return celsius if now_mono - taken_mono < _KEEP_S and os.path.exists(zone.folder) else None

    def _kept_age_s(self, temperatures: Mapping[str, float | None], now_mono: float) -> dict[str, float]:
        known = (name for name, celsius in temperatures.items() if celsius is not None)
        ages = {name: round(now_mono - self._last[name][0], 3) for name in known}
        return {name: age_s for name, age_s in ages.items() if age_s > 0}
