"""Power rails, over-current counters and fans of a Jetson, from its hwmon chips (facts/gpu.md §4).

The chips are found by their `name`, for hwmon numbers move between boots. They sit behind a slow bus: never read them
on the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in, read_int, read_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CHANNELS: Final = (1, 2, 3)  # of an INA3221; in4 to in6 are shunt voltages, in7 is their sum
_NO_LIMIT_MA: Final = 32760
_NOT_CONNECTED: Final = "NC"
_PWM_FULL: Final = 255
# Rails that add up to the whole module; the first set whose rails are all there counts. VDDQ_VDD2_1V8AO of an AGX
# Orin lies inside VIN_SYS_5V0.
_TOTALS: Final = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply. A small negative current is real at idle. `alarm`: the critical limit is passed now."""

    label: str
    volts: float | None
    amps: float | None
    watts: float | None
    warn_amps: float | None
    crit_amps: float | None
    alarm: bool | None
    chip: str


@dataclass(frozen=True, slots=True)
class Power:
    """All rails; `total_scope` says whether the total is the `module`'s or that of the whole `board`."""

    rails: tuple[Rail, ...] = ()
    total_watts: float | None = None
    total_scope: str | None = None


@dataclass(frozen=True, slots=True)
class Fan:
    """How hard the fan is driven, and how fast it turns."""

    name: str
    percent: float | None
    rpm: int | None


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured rail: its label, its number on the chip, its limits in A."""

    label: str
    folder: Path
    number: int
    warn_amps: float | None
    crit_amps: float | None


@dataclass(frozen=True, slots=True)
class Chips:
    """Where to read what. `board_input` is the power1 file of a Thor's INA238."""

    channels: tuple[Channel, ...]
    board_input: Path | None
    overcurrent: Mapping[str, Path]
    fans: tuple[tuple[str, Path | None, Path | None], ...]


def find_chips(root: Path) -> Chips:
    """The chips that matter here; a box without them has empty ones."""
    base = root / "sys/class/hwmon"
    folders = [(base / name, read_name(base / name / "name")) for name in names_in(base)]
    channels = [channel for folder, kind in folders if kind == "ina3221" for channel in _channels(folder)]
    inputs = [
        folder / "power1_input"
        for folder, kind in folders
        if kind == "ina238" and read_name(folder / "in1_label") == "VIN"
    ]
    counters = {
        name.removesuffix("_event_cnt"): folder / name
        for folder, kind in folders
        if kind == "soctherm_oc"
        for name in names_in(folder)
        if name.startswith("oc") and name.endswith("_event_cnt")
    }
    return Chips(tuple(channels), inputs[0] if inputs else None, counters, _fans(folders))


def read_power(chips: Chips) -> Power:
    """Every rail now, and the total where the rails are known to add up."""
    rails = tuple(_read_rail(channel) for channel in chips.channels)
    microwatts = None if chips.board_input is None else read_int(chips.board_input)
    if microwatts is not None:
        return Power(rails, round(microwatts / 1e6, 3), "board")
    total = _module_watts(rails)
    return Power(rails, total, None if total is None else "module")


def read_overcurrent(chips: Chips) -> Mapping[str, int | None] | None:
    """Events since boot by counter: oc1 under-voltage, oc2 average, oc3 instantaneous; None without such a chip."""
    return {name: read_int(path) for name, path in chips.overcurrent.items()} or None


def read_fans(chips: Chips) -> tuple[Fan, ...]:
    """The fans of the board."""
    return tuple(_read_fan(name, pwm, rpm) for name, pwm, rpm in chips.fans)


def _channels(folder: Path) -> list[Channel]:
    found: list[Channel] = []
    for number in _CHANNELS:
        label = read_name(folder / f"in{number}_label")
        if label and label != _NOT_CONNECTED:
            warn, crit = (_limit_amps(folder / f"curr{number}_{kind}") for kind in ("max", "crit"))
            found.append(Channel(label, folder, number, warn, crit))
    return found


def _limit_amps(path: Path) -> float | None:
    milliamps = read_int(path)
    return None if milliamps is None or milliamps >= _NO_LIMIT_MA else milliamps / 1000


def _read_rail(channel: Channel) -> Rail:
    millivolts = read_int(channel.folder / f"in{channel.number}_input")
    milliamps = read_int(channel.folder / f"curr{channel.number}_input")
    alarm = read_int(channel.folder / f"curr{channel.number}_crit_alarm")
    is_known = millivolts is not None and milliamps is not None
    return Rail(
        label=channel.label,
        volts=None if millivolts is None else millivolts / 1000,
        amps=None if milliamps is None else milliamps / 1000,
        watts=round((millivolts or 0) * (milliamps or 0) / 1e6, 3) if is_known else None,
        warn_amps=channel.warn_amps,
        crit_amps=channel.crit_amps,
        alarm=None if alarm is None else alarm == 1,
        chip=channel.folder.name,
    )


def _module_watts(rails: Sequence[Rail]) -> float | None:
    watts = {rail.label: rail.watts for rail in rails}
    for labels in _TOTALS:
        if all(label in watts for label in labels):
            parts = [watts[label] for label in labels]
            known = [part for part in parts if part is not None]
            return round(sum(known), 3) if len(known) == len(parts) else None
    return None


def _fans(folders: Sequence[tuple[Path, str | None]]) -> tuple[tuple[str, Path | None, Path | None], ...]:
    """A drive and a tachometer are two chips; a board has one of each."""
    pwm = next((folder / "pwm1" for folder, kind in folders if kind == "pwmfan"), None)
    rpm = next((folder / "rpm" for folder, kind in folders if kind == "pwm_tach"), None)
    return () if pwm is None and rpm is None else (("fan", pwm, rpm),)


def _read_fan(name: str, pwm: Path | None, rpm: Path | None) -> Fan:
    drive = None if pwm is None else read_int(pwm)
    is_drive = drive is not None and 0 <= drive <= _PWM_FULL
    percent = round(100 * (drive or 0) / _PWM_FULL, 1) if is_drive else None
    return Fan(name, percent, None if rpm is None else read_int(rpm))
