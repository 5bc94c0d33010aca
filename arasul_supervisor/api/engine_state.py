"""The first question of every endpoint that needs the engine: is it up? Answered from the snapshot, at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.process_view import why_down
from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision.snapshot import State

if TYPE_CHECKING:
    from arasul_supervisor.supervision.snapshot import Snapshot

RETRY_AFTER_S: Final = 2


def require_up(snapshot: Snapshot, now_mono: float) -> None:
    """Pass while the engine runs, be it silent: only then is there anybody to ask.

    :raises EngineDown: it does not run; the sentence says why, `Retry-After` when it is tried again
    """
    if snapshot.state is not State.RUNNING:
        raise down_error(snapshot, now_mono)


def down_error(snapshot: Snapshot, now_mono: float) -> EngineDown:
    """The 503 that says why the engine is not there."""
    until_next_s = (snapshot.next_attempt_mono or now_mono) - now_mono
    return EngineDown(why_down(snapshot), retry_after_s=max(RETRY_AFTER_S, math.ceil(until_next_s)))
