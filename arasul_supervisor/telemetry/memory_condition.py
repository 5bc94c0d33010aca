"""The memory that models live in, as a witness: the host's, or the fullest card's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu_condition import fullest_card

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.gpu_view import GpuView
    from arasul_supervisor.telemetry.stats import Look


@dataclass(frozen=True, slots=True)
class MemoryCondition:
    """What memory there is. Bytes; `pressure_percent` of the last 10 s some task waited for memory (PSI some avg10).

    `card_used_bytes`, `card_total_bytes`: of the fullest GPU with memory of its own, None where none tells now.
    `group_limit_bytes`, `group_used_bytes`: of our control group, where it allows less than the host has. What is used
    counts the page cache, so that limit − used is less than what can be had (facts/gpu.md §5.2) and no figure to act
    on; and what a Jetson's GPU holds is in no group at all. They are for people to read.
    """

    host_available_bytes: int
    host_total_bytes: int
    age_s: float
    pressure_percent: float | None = None
    group_limit_bytes: int | None = None
    group_used_bytes: int | None = None
    card_used_bytes: int | None = None
    card_total_bytes: int | None = None
    is_unified: bool = False

    @property
    def is_dedicated(self) -> bool:
        """Whether models live in a card's own memory. A GPU that does not tell leaves them to the host's."""
        return not self.is_unified and self.card_total_bytes is not None

    @property
    def available_bytes(self) -> int:
        """What is left of the memory that models live in."""
        if self.is_dedicated and self.card_total_bytes is not None and self.card_used_bytes is not None:
            return max(0, self.card_total_bytes - self.card_used_bytes)
        return self.host_available_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        if self.is_dedicated and self.card_total_bytes is not None:
            return self.card_total_bytes
        return self.host_total_bytes


def memory_condition(look: Look | None, view: GpuView) -> MemoryCondition | None:
    """Memory as of the last look at the host; None while there is none, or its meminfo told nothing.

    :param look: one that is not too old
    """
    if look is None or look.host.memory is None:
        return None
    memory = look.host.memory
    limit = memory.cgroup_limit_bytes
    is_tighter = limit is not None and limit < memory.total_bytes
    used, total = fullest_card(view) or (None, None)
    return MemoryCondition(
        host_available_bytes=memory.available_bytes,
        host_total_bytes=memory.total_bytes,
        age_s=max(0.0, view.now_mono - look.taken_mono),
        pressure_percent=look.host.pressure.some_avg10,
        group_limit_bytes=limit if is_tighter else None,
        group_used_bytes=memory.cgroup_current_bytes if is_tighter else None,
        card_used_bytes=used,
        card_total_bytes=total,
        is_unified=any(card.is_unified for card in view.own_cards),
    )
