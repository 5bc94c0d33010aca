"""The word of the health point `gpu` (facts/gpu.md §7.3, end). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu.nvml_words import device_sentence
from arasul_supervisor.telemetry.gpu_view import rounded

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.gpu.readings import GpuReading
    from arasul_supervisor.telemetry.gpu_view import GpuView

STUCK_TOO_LONG_S: Final = 60.0
THROTTLED_TOO_LONG_S: Final = 10.0
_WORST_FIRST: Final = ("fail", "warn", "unknown", "ok")


@dataclass(frozen=True, slots=True)
class GpuCheck:
    """One point of `/health`: `ok`, `warn`, `fail`, `unknown` or `skipped`, with a sentence."""

    status: str
    detail: str
    age_s: float | None


def check_gpus(view: GpuView, *, now_mono: float) -> GpuCheck:
    """How the GPUs are: the worst of them speaks for all; a box without a GPU is skipped, not sick."""
    status, detail = _judge(view, now_mono)
    return GpuCheck(status, detail, rounded(view.age_s))


def _judge(view: GpuView, now_mono: float) -> tuple[str, str]:
    report = view.report
    if not report.has_answered:
        return "unknown", report.sentence
    if report.state in ("none", "no_driver"):
        return ("warn" if report.has_worked else "skipped"), report.sentence
    if report.state == "stuck":
        for_s = now_mono - report.since_mono
        return (
            "fail" if for_s > STUCK_TOO_LONG_S else "unknown"
        ), f"{report.sentence} For {for_s:.0f} s now."
    if report.state == "no_access":
        return ("fail" if report.has_worked else "warn"), report.sentence
    if report.state == "driver_mismatch":
        return "warn", report.sentence
    if report.state != "ok":
        return "fail", report.sentence
    if not view.readings:
        return "skipped", report.sentence
    verdicts = [_judge_one(reading, view, now_mono) for reading in view.readings]
    return min(verdicts, key=lambda verdict: _WORST_FIRST.index(verdict[0]))


def _judge_one(reading: GpuReading, view: GpuView, now_mono: float) -> tuple[str, str]:
    sentence = device_sentence(reading)
    if reading.state in ("lost", "reset_required"):
        return "fail", sentence
    if reading.state == "no_access":
        return ("fail" if reading.has_worked else "warn"), sentence
    if reading.state not in ("ok", "gated"):
        return "warn", sentence
    if view.is_stale:
        return "unknown", f"The last figures of GPU {reading.index} are {view.age_s or 0:.0f} s old."
    since_mono = reading.throttled_since_mono
    if since_mono is not None and now_mono - since_mono >= THROTTLED_TOO_LONG_S:
        reasons = ", ".join(reading.throttle_reasons or ())
        return "warn", f"GPU {reading.index} is slowed down ({reasons}) for {now_mono - since_mono:.0f} s."
    return "ok", sentence
