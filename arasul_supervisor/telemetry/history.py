"""The last quarter of an hour as a row of flat figures, for plots."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SPAN_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The flat figures of `/api/stats` at one moment, with the host's memory and the power of all GPUs, or of the
    board. Null is what was not known then; `timestamp` is of the wall clock, which may step."""

    timestamp: float
    gpu_utilization: float | None
    gpu_memory: float | None
    gpu_temperature: float | None
    cpu_percent: float | None
    process_memory_mb: float | None
    memory_used_percent: float | None
    power_watts: float | None


class History:
    """A ring of samples in the order they were taken; where the daemon stood still there are none."""

    def __init__(self, period_s: float) -> None:
        """Empty.

        :param period_s: seconds between two samples
        """
        self.period_s = period_s
        self._ring: deque[tuple[float, Sample]] = deque(maxlen=max(1, round(SPAN_S / period_s)))

    def add(self, sample: Sample, *, taken_mono: float) -> None:
        """Append the newest; the oldest of a full ring goes."""
        self._ring.append((taken_mono, sample))

    def last(self, span_s: float, *, now_mono: float) -> list[Sample]:
        """The samples of the last `span_s` seconds, oldest first; by the clock that never steps."""
        return [sample for taken_mono, sample in self._ring if now_mono - taken_mono <= span_s]


def sample_of(payload: Mapping[str, Any], *, taken_at: float) -> Sample:  # Any: JSON
    """The figures of the body of `/api/stats` that a plot shows. Pure."""
    memory = payload["host"]["memory"]
    return Sample(
        timestamp=taken_at,
        gpu_utilization=payload["gpu_utilization"],
        gpu_memory=payload["gpu_memory"],
        gpu_temperature=payload["gpu_temperature"],
        cpu_percent=payload["cpu_percent"],
        process_memory_mb=payload["process_memory_mb"],
        memory_used_percent=memory["used_percent"] if memory else None,
        power_watts=_power_watts(payload),
    )


def _power_watts(payload: Mapping[str, Any]) -> float | None:  # Any: JSON
    """Of all GPUs together where each tells its own, else of the whole board (`host.power`)."""
    watts: list[float | None] = [gpu["power_watts"] for gpu in payload["gpus"]]
    known = [each for each in watts if each is not None]
    if known and len(known) == len(watts):
        return round(sum(known), 3)
    total: float | None = payload["host"]["power"]["total_watts"]
    return total
