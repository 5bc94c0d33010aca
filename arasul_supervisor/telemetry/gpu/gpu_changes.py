"""What the daemon's log says of GPUs: each change of a state, and once each figure that we may not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu.nvml_codes import NO_PERMISSION
from arasul_supervisor.telemetry.gpu.words import state_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.telemetry.gpu.readings import GpuReading


class GpuChanges:
    """Remembers what was told."""

    def __init__(self, log: EventLog) -> None:
        """Tell it to `log`."""
        self._log = log
        self._forbidden: set[tuple[int, tuple[str, ...]]] = set()

    def tell(self, before: Sequence[GpuReading], now: Sequence[GpuReading]) -> None:
        """What `now` has that `before` had not."""
        states = {reading.key: reading.state for reading in before}
        for reading in now:
            if _lasting(states.get(reading.key, "ok")) != _lasting(reading.state):
                self._tell_state(reading)
            self._tell_forbidden(reading)

    def _tell_state(self, reading: GpuReading) -> None:
        tell = self._log.info if _lasting(reading.state) == "ok" else self._log.error
        name = reading.name or reading.node
        sentence = state_sentence(reading.index, name, reading.state, is_unlisted=reading.is_unlisted)
        tell("gpu_changed", index=reading.index, state=reading.state, sentence=sentence)

    def _tell_forbidden(self, reading: GpuReading) -> None:
        figures = tuple(sorted(figure for figure, code in reading.refusals.items() if code == NO_PERMISSION))
        if figures and (reading.index, figures) not in self._forbidden:
            self._forbidden.add((reading.index, figures))
            self._log.warning("gpu_figures_forbidden", index=reading.index, figures=figures)


def _lasting(state: str) -> str:
    """A GPU that is gated while it idles is well, and not worth a line each time."""
    return "ok" if state == "gated" else state
