"""The source of a box where GPU figures are switched off."""

from __future__ import annotations

import asyncio

from arasul_supervisor.telemetry.gpu.readings import SourceReport


class NoGpu:
    """Has nothing to say and needs nothing."""

    def __init__(self, setting: str, now_mono: float) -> None:
        """Keep the value of ARASUL_GPU that asked for this."""
        self._report = SourceReport(
            source="none",
            state="none",
            sentence=f"GPU figures are off: ARASUL_GPU is {setting}.",
            since_mono=now_mono,
            has_answered=True,
        )

    def report(self) -> SourceReport:
        """No GPU, for ever."""
        return self._report

    def look_again(self) -> asyncio.Future[None]:
        """Done at once: there is nothing to look at."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def run(self) -> None:
        """Wait to be cancelled."""
        await asyncio.Event().wait()
