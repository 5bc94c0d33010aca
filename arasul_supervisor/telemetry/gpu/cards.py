"""The GPUs of a box, each with what every source says of it. Pure.

A Jetson has one GPU of its own, which sysfs, the power rails, NVML and jtop may all tell of; a card of NVIDIA's is
told of by NVML alone. A box may have both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.nvml_codes import NO_PERMISSION, SURE_BY_ONE_FIGURE
from arasul_supervisor.telemetry.gpu.readings import GpuReading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.telemetry.gpu.readings import SourceReport

_WELL: Final = ("ok", "gated")
_WORD_OF: Final = {"tegra": "sysfs"}  # the source's first word


@dataclass(frozen=True, slots=True)
class Aged:
    """A source's report as it may be shown at an instant: readings that are too old tell only who they are."""

    report: SourceReport
    readings: tuple[GpuReading, ...]
    age_s: float | None
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU: its readings by source. `age_s`: of the oldest source that is not stale, else of the youngest."""

    index: int
    readings: Mapping[str, GpuReading]
    age_s: float | None
    is_stale: bool

    @property
    def state(self) -> str:
        """How it is. Where a Jetson's GPU has a `load` file NVML is a stub, whose state says nothing of the GPU.

        Where NVML tells its load, the board's firmware may hang while the GPU is well.
        """
        by_nvml, by_sysfs = self.readings.get("nvml"), self.readings.get("sysfs")
        if by_sysfs is None:
            return by_nvml.state if by_nvml else "ok"
        if by_nvml is None or by_sysfs.has_load_file:
            return by_sysfs.state
        return by_sysfs.state if by_nvml.state == "ok" and by_sysfs.state in _WELL else by_nvml.state

    @property
    def is_well(self) -> bool:
        """Whether it can be worked with, asleep or awake."""
        return self.state in _WELL

    @property
    def is_foreign(self) -> bool:
        """Whether it may be somebody else's: listed here, but never ours to open."""
        by_nvml = self.readings.get("nvml")
        is_forbidden = by_nvml is not None and by_nvml.refusals.get("handle") == NO_PERMISSION
        return is_forbidden and not self.has_worked

    @property
    def is_unlisted(self) -> bool:
        """Whether its driver does not tell of it any more."""
        return any(reading.is_unlisted for reading in self.readings.values())

    @property
    def is_stand_in(self) -> bool:
        """Whether no source has ever told of it."""
        return all(reading.is_stand_in for reading in self.readings.values())

    @property
    def first_reading(self) -> GpuReading:
        """NVML's where there is one, which knows of a card's own memory."""
        return self.readings.get("nvml") or next(iter(self.readings.values()))

    @property
    def id(self) -> str:
        """What names it over reboots: the node of an Orin, else the UUID."""
        by_sysfs = self.readings.get("sysfs")
        if by_sysfs is not None and by_sysfs.node and (by_sysfs.has_load_file or not self.uuid):
            return by_sysfs.node
        return self.uuid or str(self.index)

    @property
    def uuid(self) -> str | None:
        """NVML's name for it."""
        by_nvml = self.readings.get("nvml")
        return by_nvml.uuid if by_nvml else None

    @property
    def name(self) -> str | None:
        """Its product name, or the node of a Jetson's GPU."""
        names = (reading.name or reading.node for reading in self.readings.values())
        return next((name for name in names if name), None)

    @property
    def is_unified(self) -> bool:
        """Whether it shares the host's memory."""
        return any(reading.is_unified for reading in self.readings.values())

    @property
    def has_worked(self) -> bool:
        """Whether this very GPU has answered in this life."""
        return any(reading.has_worked for reading in self.readings.values())

    @property
    def throttle_reasons(self) -> tuple[str, ...]:
        """Words of both, the board's alerts first."""
        parts = (self.readings.get(source) for source in ("sysfs", "nvml"))
        return tuple(word for reading in parts if reading for word in reading.throttle_reasons or ())

    @property
    def throttled_since_mono(self) -> float | None:
        """Since when it is slowed down, by the source that is believed (`merge.WINNERS`)."""
        for source in ("sysfs", "nvml"):
            reading = self.readings.get(source)
            if reading is not None and reading.throttled is not None:
                return reading.throttled_since_mono
        return None

    @property
    def last_xid(self) -> tuple[int, float] | None:
        """The driver's last error report and when it came, since the child that asks was started."""
        by_nvml = self.readings.get("nvml")
        if by_nvml is None or by_nvml.last_xid is None or by_nvml.last_xid_mono is None:
            return None
        return by_nvml.last_xid, by_nvml.last_xid_mono


def aged(report: SourceReport, *, now_mono: float, stale_after_s: float) -> Aged:
    """The report at `now_mono`.

    A source that cannot work lends its state to the GPUs it knew; if it never knew one, a nameless GPU stands for
    what the driver would tell. A box without library has none at all.
    """
    age_s = None if report.taken_mono is None else max(0.0, now_mono - report.taken_mono)
    is_stale = age_s is not None and age_s > stale_after_s
    readings = report.readings
    if report.state != "ok":
        readings = tuple(_lent(one, report.state) for one in readings)
        is_told_of = report.state != "none" and (report.state != "no_driver" or report.has_worked)
        if not readings and is_told_of:
            word = _WORD_OF.get(report.source, report.source)
            readings = (GpuReading(index=0, source=word, state=report.state, is_stand_in=True),)
    oldest_mono = now_mono - stale_after_s
    readings = tuple(one.identity() if is_stale else _without_old(one, oldest_mono) for one in readings)
    return Aged(report, readings, age_s, is_stale)


def _lent(reading: GpuReading, state: str) -> GpuReading:
    """A GPU in the state of its source. What is lost stays so, and what is lost with its source has no figure."""
    if reading.state in SURE_BY_ONE_FIGURE:
        return reading
    return replace(reading if state == "stuck" else reading.identity(), state=state)


def _without_old(reading: GpuReading, oldest_mono: float) -> GpuReading:
    """A figure that was kept when it failed in passing is older than its reading, and goes before it."""
    kept = {figure: mono for figure, mono in reading.kept_since_mono.items() if mono >= oldest_mono}
    if len(kept) == len(reading.kept_since_mono):
        return reading
    gone: dict[str, Any] = dict.fromkeys(reading.kept_since_mono.keys() - kept.keys())  # Any: field values
    return replace(reading, **gone, kept_since_mono=kept)


def cards_of(sources: Sequence[Aged]) -> tuple[Card, ...]:
    """All GPUs, NVML's in its own order."""
    by_name = {source.report.source: source for source in sources}
    of_board = by_name.get("tegra")
    board_gpu = {reading.source: reading for reading in of_board.readings} if of_board else {}
    cards: list[Card] = []
    nvml = by_name.get("nvml")
    for reading in nvml.readings if nvml else ():
        is_the_boards = bool(board_gpu) and _is_integrated(reading)
        if nvml and not is_the_boards:
            cards.append(Card(reading.index, {"nvml": reading}, nvml.age_s, nvml.is_stale))
        elif nvml and of_board:
            cards.append(
                _board_card(reading.index, {"nvml": reading, **board_gpu}, (nvml, of_board), by_name)
            )
            board_gpu = {}
    if board_gpu and of_board:
        index = max((card.index + 1 for card in cards), default=0)
        cards.append(_board_card(index, board_gpu, (of_board,), by_name))
    return tuple(cards)


def _is_integrated(reading: GpuReading) -> bool:
    """A stand-in for what NVML would tell is the board's own GPU, too."""
    return reading.is_unified or reading.is_stand_in


def _board_card(
    index: int, readings: Mapping[str, GpuReading], sources: Sequence[Aged], by_name: Mapping[str, Aged]
) -> Card:
    """The Jetson's own GPU; what jtop adds is shown while it is fresh."""
    jtop = by_name.get("jtop")
    of_jtop = {reading.source: reading for reading in jtop.readings[:1]} if jtop and is_fresh(jtop) else {}
    fresh = [source.age_s for source in sources if not source.is_stale and source.age_s is not None]
    old = [source.age_s for source in sources if source.age_s is not None]
    age_s = max(fresh) if fresh else min(old, default=None)
    return Card(index, {**readings, **of_jtop}, age_s, is_stale=not fresh and bool(old))


def is_fresh(source: Aged) -> bool:
    """Whether what it says of the whole box may be shown."""
    return source.report.state == "ok" and not source.is_stale
