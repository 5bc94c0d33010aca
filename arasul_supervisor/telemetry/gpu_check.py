"""The word of the health point `gpu` (facts/gpu.md §7.3, end). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.nvml_codes import GRAVE_XIDS, XID_OFF_THE_BUS
from arasul_supervisor.telemetry.gpu.words import stale_sentence, state_sentence, xid_sentence
from arasul_supervisor.telemetry.gpu_view import rounded

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.board_watch import BoardWatch
    from arasul_supervisor.telemetry.gpu.cards import Aged, Card
    from arasul_supervisor.telemetry.gpu.readings import SourceReport
    from arasul_supervisor.telemetry.gpu_view import GpuView

STUCK_TOO_LONG_S: Final = 60.0
THROTTLED_TOO_LONG_S: Final = 10.0
XID_COUNTS_S: Final = 600.0  # a card that goes on answering has got over it
_WORST_FIRST: Final = ("fail", "warn", "unknown", "ok", "skipped")


@dataclass(frozen=True, slots=True)
class GpuCheck:
    """One point of `/health`: `ok`, `warn`, `fail`, `unknown` or `skipped`, with a sentence.

    `fullest_percent`: memory in use on the fullest GPU with memory of its own; `has_gpu`: one has told of itself.
    """

    status: str
    detail: str
    age_s: float | None
    fullest_percent: float | None = None
    has_gpu: bool = False


def check_gpus(view: GpuView, watch: BoardWatch) -> GpuCheck:
    """How the GPUs are: the worst of them speaks for all; a box without a GPU is skipped, not sick."""
    if any(source.report.source == "tegra" and not source.report.has_answered for source in view.sources):
        return GpuCheck("unknown", "The board has not been looked at yet.", rounded(view.age_s))
    verdicts = [
        *(_judge_source(source, view) for source in view.sources),
        *(_judge_card(card, view.now_mono) for card in view.own_cards),
    ]
    if view.cards:
        verdicts += [("warn", sentence) for sentence in watch.warnings(view.now_mono)[:1]]
    told = [verdict for verdict in verdicts if verdict is not None]
    status, detail = min(told, key=lambda verdict: _WORST_FIRST.index(verdict[0]))
    shares = [share for card in view.cards if (share := _memory_percent(card)) is not None]
    has_gpu = any(not card.is_stand_in for card in view.cards)
    return GpuCheck(status, detail, rounded(view.age_s), max(shares, default=None), has_gpu)


def _memory_percent(card: Card) -> float | None:
    used, total = card.first_reading.memory_used_bytes, card.first_reading.memory_total_bytes
    return None if used is None or not total or card.is_unified else 100 * used / total


def _judge_source(source: Aged, view: GpuView) -> tuple[str, str] | None:
    """What a source as a whole says; None when its GPUs say more.

    One that is not needed to know the GPU (jtop, and NVML where sysfs tells more than its stub) never condemns it.
    """
    report = source.report
    if report.source == "jtop" or (report.source == "nvml" and _is_jetson_with_load(view)):
        return None
    if not report.has_answered:
        return ("warn" if report.keeps_failing else "unknown"), report.sentence
    if report.state == "ok" and source.is_stale and not (report.source == "tegra" and _is_told_by_nvml(view)):
        age_s = source.age_s or 0.0
        status = "warn" if age_s > STUCK_TOO_LONG_S else "unknown"
        return status, f"The last figures are {age_s:.0f} s old. {report.sentence}"
    if report.state in ("none", "no_driver"):
        return ("warn" if report.has_worked else "skipped"), report.sentence
    if report.state == "stuck":
        status, sentence = _judge_stuck(report, view.now_mono)
        is_needed = report.source == "nvml" or not _is_told_by_nvml(view)
        return (status if is_needed or status == "unknown" else "warn"), sentence
    if report.state == "no_access":
        return ("fail" if report.has_worked else "warn"), report.sentence
    if report.state == "driver_mismatch":
        return "warn", report.sentence
    if report.state != "ok":
        return "fail", report.sentence
    return None if view.cards else ("skipped", report.sentence)


def _judge_stuck(report: SourceReport, now_mono: float) -> tuple[str, str]:
    for_s = now_mono - report.since_mono
    status = "fail" if for_s > STUCK_TOO_LONG_S else "unknown"
    return status, f"{report.sentence} For {for_s:.0f} s now."


def _judge_card(card: Card, now_mono: float) -> tuple[str, str] | None:
    """How one GPU is; None for one that no source has ever told of: why not, the source says itself."""
    if card.is_stand_in:
        return None
    sentence = state_sentence(card.index, card.name, card.state, is_unlisted=card.is_unlisted)
    if card.state in ("lost", "reset_required"):
        return "fail", sentence
    if card.state == "no_access":
        return ("fail" if card.has_worked else "warn"), sentence
    if card.state == "stuck":
        return "unknown", sentence  # for how long is the source's to say
    if card.state not in ("ok", "gated"):
        return "warn", sentence
    if card.is_stale:
        return "unknown", stale_sentence(card.index, card.age_s)
    xid, seen_mono = card.last_xid or (0, 0.0)
    if xid in GRAVE_XIDS and now_mono - seen_mono <= XID_COUNTS_S:
        return _judge_xid(card.index, xid)
    since_mono = card.throttled_since_mono
    if since_mono is not None and now_mono - since_mono >= THROTTLED_TOO_LONG_S:
        reasons = ", ".join(card.throttle_reasons)
        return "warn", f"GPU {card.index} is slowed down ({reasons}) for {now_mono - since_mono:.0f} s."
    return "ok", sentence


def _judge_xid(index: int, xid: int) -> tuple[str, str]:
    """Off the bus is for good; of the others it is not known here whether the card got over them."""
    told = xid_sentence(index, xid)
    if xid == XID_OFF_THE_BUS:
        return (
            "fail",
            f"{told} Only a reset of the card or a reboot brings it back; restarting Ollama does not.",
        )
    return (
        "warn",
        f"{told} If work on it fails, reset the card or reboot; restarting Ollama does not help then.",
    )


def _is_told_by_nvml(view: GpuView) -> bool:
    """Whether NVML itself answers for the GPU of a Jetson, so that firmware that hangs says nothing of the GPU."""
    readings = (card.readings.get("nvml") for card in view.cards if "sysfs" in card.readings)
    found = [reading for reading in readings if reading is not None and not reading.is_stand_in]
    return bool(found) and not _is_jetson_with_load(view)


def _is_jetson_with_load(view: GpuView) -> bool:
    readings = (card.readings.get("sysfs") for card in view.cards)
    return any(reading is not None and reading.has_load_file for reading in readings)
