"""The GPUs as one witness: the worst state of them, since when, and whether one can be worked with. Pure.

It judges as the health point does (`gpu_check`): a source that cannot know the GPU never condemns it (`Card.state`),
and nothing old is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.nvml_codes import XID_OFF_THE_BUS
from arasul_supervisor.telemetry.gpu.words import stale_sentence, state_sentence, xid_sentence
from arasul_supervisor.telemetry.gpu_check import XID_COUNTS_S
from arasul_supervisor.telemetry.gpu_view import flat_figures, gpu_entries, own_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.telemetry.gpu.cards import Aged, Card
    from arasul_supervisor.telemetry.gpu.readings import SourceReport
    from arasul_supervisor.telemetry.gpu_view import GpuView

UNKNOWN: Final = "unknown"
"""Beside the words of facts/gpu.md §7.1: no look has come to its end."""
WORST_FIRST: Final = (
    *("lost", "reset_required", "stuck", "no_access", "driver_mismatch", "no_driver"),
    *(UNKNOWN, "ok", "gated", "none"),
)


@dataclass(frozen=True, slots=True)
class GpuCondition:
    """How the GPUs of this box are at one instant.

    `state`: of the worst of our own; `unknown` until a look is done, `none` where there is no GPU. `since_mono`: since
    when, at most one period late. `is_well`: one answers now, whatever another does. `has_worked`: what is in this
    state has answered in this life. `load_percent`: of the busiest, None as soon as one is unknown. `fullest_percent`:
    memory in use on the fullest with memory of its own. `is_unified`: one shares the host's memory.
    """

    state: str
    sentence: str
    since_mono: float
    is_well: bool = False
    has_worked: bool = False
    load_percent: float | None = None
    fullest_percent: float | None = None
    is_unified: bool = False


def condition_of(view: GpuView, before: GpuCondition | None = None) -> GpuCondition:
    """The condition as of this view.

    :param before: an earlier one, which tells since when a single card is in its state
    """
    sources = [source for source in view.sources if source.report.source != "jtop"]  # it only adds figures
    state = _worst_state(view, sources)
    cards = [card for card in view.own_cards if card.state == state]
    reports = [source.report for source in sources if source.report.state == state]
    load = flat_figures(own_entries(view, gpu_entries(view, None)))["gpu_utilization"]
    fullest = fullest_card(view)
    return GpuCondition(
        state=state,
        sentence=_sentence(view, sources, cards, reports),
        since_mono=_since(state, cards, reports, before, view.now_mono),
        is_well=state != UNKNOWN and any(is_workable(card, view.now_mono) for card in view.own_cards),
        has_worked=any(card.has_worked for card in cards) or any(report.has_worked for report in reports),
        load_percent=load if isinstance(load, float | int) else None,
        fullest_percent=100 * fullest[0] / fullest[1] if fullest else None,
        is_unified=any(card.is_unified for card in view.own_cards),
    )


def is_workable(card: Card, now_mono: float) -> bool:
    """Whether it answers now, and its driver has not just reported that it fell off the bus."""
    xid, seen_mono = card.last_xid or (0, 0.0)
    is_off_the_bus = xid == XID_OFF_THE_BUS and now_mono - seen_mono <= XID_COUNTS_S
    return card.is_well and not card.is_stale and not card.is_stand_in and not is_off_the_bus


def fullest_card(view: GpuView) -> tuple[int, int] | None:
    """Bytes in use and in all of the fullest of our cards with memory of its own; None where none tells now."""
    told = []
    for card in view.own_cards:
        used, total = card.first_reading.memory_used_bytes, card.first_reading.memory_total_bytes
        if card.is_well and not card.is_unified and used is not None and total:
            told.append((used, total))
    return max(told, key=lambda one: one[0] / one[1], default=None)


def _worst_state(view: GpuView, sources: Sequence[Aged]) -> str:
    if any(source.report.source == "tegra" and not source.report.has_answered for source in view.sources):
        return UNKNOWN  # whether NVML speaks for the GPU depends on the board
    states = [card.state for card in view.own_cards]
    if not states:
        states = [_state_without_card(source.report) for source in sources]
    return min(states, key=WORST_FIRST.index, default="none")


def _state_without_card(report: SourceReport) -> str:
    if not report.has_answered:
        return UNKNOWN
    return "none" if report.state == "ok" else report.state


def _sentence(
    view: GpuView, sources: Sequence[Aged], cards: Sequence[Card], reports: Sequence[SourceReport]
) -> str:
    """A source that is in this state says more than its card; else the first card speaks, with what spoils it."""
    card = next(iter(cards), None)
    if reports and (card is None or not card.is_well):
        return reports[0].sentence
    if card is None:
        told = sorted((source.report for source in sources), key=lambda report: report.has_answered)
        return told[0].sentence if told else "Nothing tells of a GPU."
    if card.is_stale:
        return stale_sentence(card.index, card.age_s)
    if card.is_well and not is_workable(card, view.now_mono):
        return xid_sentence(card.index, XID_OFF_THE_BUS)
    return state_sentence(card.index, card.name, card.state, is_unlisted=card.is_unlisted)


def _since(
    state: str,
    cards: Sequence[Card],
    reports: Sequence[SourceReport],
    before: GpuCondition | None,
    now_mono: float,
) -> float:
    """A source keeps its own time; a card of a source that works has been so since the look that showed it."""
    if reports and state not in ("ok", "gated"):
        return min(report.since_mono for report in reports)
    if before is not None and before.state == state:
        return before.since_mono
    return now_mono - max((card.age_s or 0.0 for card in cards), default=0.0)
