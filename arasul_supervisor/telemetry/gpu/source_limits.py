"""How long a source waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How long to wait for what. A standing client keeps an idle card initialised, hence the long first limit."""

    period_s: float = 5.0
    sample_s: float = 1.0
    init_s: float = 30.0
    kill_s: float = 1.0
    farewell_s: float = 0.5  # as `kill_s`, when the daemon leaves
    keep_s: float = 15.0  # how long a figure that fails in passing keeps its value
    look_again_s: float = 30.0  # no driver, no device
    look_lost_s: float = 60.0  # no card but lost ones: an open client would stand in the way of their reset
    look_rarely_s: float = 600.0  # no library, no driver, versions that do not fit
    back_off_max_s: float = 60.0  # after a silent or dead child: the period, doubled with each failure

    def back_off_s(self, failures: int) -> float:
        """Pause after so many failures in a row."""
        return min(self.back_off_max_s, self.period_s * 2.0 ** min(failures - 1, 16))
