"""The first question of every endpoint that needs the engine: is it up? Answered from the snapshot, at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision.snapshot import State, why_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.healing.treatment.asked_cures import AskedCures
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.residency import Residency
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.snapshot import Snapshot
    from arasul_supervisor.telemetry.sampler import Sampler

RETRY_AFTER_S: Final = 2
REFRESH_S: Final = 0.4
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """What every endpoint has in hand that does something with the engine's models.

    `models_changed` is called after each change of what is installed or loaded.
    """

    engine: Engine
    residency: Residency
    catalogue: Catalogue
    sampler: Sampler
    asked: AskedCures
    clock: Clock
    models_changed: Callable[[], None]

    def require_up(self) -> None:
        """Pass while the engine runs, be it silent: only then is there anybody to ask.

        :raises EngineDown: it does not run
        """
        require_up(self.engine.snapshot, self.clock.mono())

    async def free_mib(self) -> float | None:
        """Free memory of the GPU (of the host where they share it), looked at now where the GPU answers in time."""
        await self.sampler.refresh(timeout_s=REFRESH_S)
        return in_mib(self.sampler.free_bytes())


def require_up(snapshot: Snapshot, now_mono: float) -> None:
    """The same for who has a snapshot."""
    if snapshot.state is not State.RUNNING:
        raise down_error(snapshot, now_mono)


def down_error(snapshot: Snapshot, now_mono: float) -> EngineDown:
    """The 503 that says why the engine is not there; `Retry-After` is when it is started again."""
    until_next_s = (snapshot.next_attempt_mono or now_mono) - now_mono
    return EngineDown(why_down(snapshot), retry_after_s=max(RETRY_AFTER_S, math.ceil(until_next_s)))


def in_mib(n_bytes: int | None) -> float | None:
    """MiB with one decimal; unknown stays unknown."""
    return None if n_bytes is None else round(n_bytes / MIB, 1)
