"""The two clocks, injected so that tests can turn them by hand."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol


class Clock(Protocol):
    """Where every room takes its time from."""

    def mono(self) -> float:
        """Seconds of a clock that never steps back; the same clock as the event loop's `time()`."""

    def wall(self) -> float:
        """Seconds since the epoch, for what people read; may step."""


class SystemClock:
    """The machine's clocks: CLOCK_MONOTONIC (asyncio's own) and CLOCK_REALTIME."""

    def mono(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def rfc3339(wall_s: float | None) -> str | None:
    """An instant as the API writes it: `2026-11-23T15:04:05.123Z`, UTC with milliseconds; None stays None."""
    if wall_s is None:
        return None
    instant = datetime.fromtimestamp(wall_s, tz=timezone.utc)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
