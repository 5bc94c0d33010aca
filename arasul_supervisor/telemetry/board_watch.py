"""What of a board is worth a warning once it has lasted (facts/gpu.md §7.3). Pure: a fold over the looks.

Temperatures are held against the board's own trip points, never against a table of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.board import BoardFigures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.telemetry.host import HostMemory

NEAR_PASSIVE_C: Final = 4.0
NEAR_CRITICAL_C: Final = 10.0  # where only that is known, as on Thor, which slows down 5 °C below it
ALERT_FOR_S: Final = 10.0
FOR_S: Final = 30.0
OVERCURRENT_TOLD_S: Final = 60.0
_WORTH_WARNING: Final = {
    "oc1": "under-voltage",
    "oc2": "average over-current",
}  # oc3 counts thousands at idle
_LOW_BYTES: Final = 1 << 30
_LOW_PERCENT: Final = 3.0


@dataclass(frozen=True, slots=True)
class BoardWatch:
    """Since when each condition holds (monotonic seconds), with its sentence; None or empty while it does not."""

    hot_since_mono: float | None = None
    hot: str = ""
    low_memory_since_mono: float | None = None
    low_memory: str = ""
    alerts_since_mono: float | None = None
    alerts: str = ""
    alarms: str = ""
    overcurrent_at_mono: float | None = None
    overcurrent: str = ""
    counters: Mapping[str, int | None] | None = None

    def warnings(self, now_mono: float) -> tuple[str, ...]:
        """What has lasted long enough to be told, the gravest first."""
        lasting = (
            (self.low_memory, self.low_memory_since_mono, FOR_S),
            (self.alerts, self.alerts_since_mono, ALERT_FOR_S),
            (self.hot, self.hot_since_mono, FOR_S),
        )
        told = [said for said, since, for_s in lasting if since is not None and now_mono - since >= for_s]
        if self.overcurrent_at_mono is not None and now_mono - self.overcurrent_at_mono < OVERCURRENT_TOLD_S:
            told.append(self.overcurrent)
        if self.alarms:
            told.append(self.alarms)
        return tuple(told)


def watch_board(
    before: BoardWatch,
    board: BoardFigures | None,
    *,
    memory: HostMemory | None,
    is_unified: bool,
    now_mono: float,
) -> BoardWatch:
    """The watch after one more look; what this look could not tell is not held against the board.

    :param memory: the host's, which is the GPU's where `is_unified`
    """
    low = _low(memory) if is_unified else ""
    board = board or BoardFigures()
    hot, alerts, risen = _hot(board), _alerts(board), _risen(before.counters, board.overcurrent)
    known = {name: count for name, count in (board.overcurrent or {}).items() if count is not None}
    return BoardWatch(
        hot_since_mono=_since(before.hot_since_mono, hot, now_mono),
        hot=hot,
        low_memory_since_mono=_since(before.low_memory_since_mono, low, now_mono),
        low_memory=low,
        alerts_since_mono=_since(before.alerts_since_mono, alerts, now_mono),
        alerts=alerts,
        alarms=_alarms(board),
        overcurrent_at_mono=now_mono if risen else before.overcurrent_at_mono,
        overcurrent=risen or before.overcurrent,
        counters={**(before.counters or {}), **known},
    )


def _since(since_mono: float | None, holds: str, now_mono: float) -> float | None:
    if not holds:
        return None
    return now_mono if since_mono is None else since_mono


def _hot(board: BoardFigures) -> str:
    """The zone that is nearest to its limit, when it is near enough."""
    worst: tuple[float, str] | None = None
    for name, celsius in board.temperatures_c.items():
        limits = board.temperature_limits_c.get(name)
        if celsius is None or limits is None:
            continue
        limit, near_c = limits.passive, NEAR_PASSIVE_C
        if limit is None:
            limit, near_c = limits.critical, NEAR_CRITICAL_C
        if limit is not None and limit - celsius <= near_c and (worst is None or limit - celsius < worst[0]):
            kind = "slows itself down" if limits.passive is not None else "switches itself off"
            said = (
                f"The zone {name} has {celsius:.1f} °C; at {limit:.1f} °C the board {kind}: cool it better."
            )
            worst = (limit - celsius, said)
    return worst[1] if worst else ""


def _low(memory: HostMemory | None) -> str:
    if memory is None:
        return ""
    floor = max(_LOW_BYTES, memory.total_bytes * _LOW_PERCENT / 100)
    if memory.available_bytes >= floor:
        return ""
    return (
        f"Only {memory.available_bytes >> 20} MiB of the memory that GPU and host share are available "
        f"({memory.used_percent:.0f} % in use): unload a model, or give it a shorter context."
    )


def _alerts(board: BoardFigures) -> str:
    """The GPU's own alert is told with the GPU; those of other domains slow the board as well."""
    raised = [name for name, level in (board.throttle_alerts or {}).items() if level and name != "gpu"]
    if not raised:
        return ""
    return f"The board slows itself down (throttle alert of {', '.join(raised)}): cool it better."


def _alarms(board: BoardFigures) -> str:
    rails = [rail.label for rail in board.power.rails if rail.alarm]
    return (
        f"The current of {', '.join(rails)} is over its critical limit: check the power supply."
        if rails
        else ""
    )


def _risen(before: Mapping[str, int | None] | None, now: Mapping[str, int | None] | None) -> str:
    for name, meaning in _WORTH_WARNING.items():
        old, new = (before or {}).get(name), (now or {}).get(name)
        if old is not None and new is not None and new > old:
            return f"The board saw {new - old} more events of {meaning} ({name}): check its power supply."
    return ""
