"""When memory is short, what may be freed, the least wanted first. Pure: a fold over looks, and a choice.

Unified memory, and the host's where no GPU has its own: what is available under a floor (facts/gpu.md §7.3). A card's
own memory is full by design; it is short only once a model did not fit, or something holds it that nobody owns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.looking.witnesses import Look, MemoryLook
    from arasul_supervisor.supervision.process_looks import Identity

FLOOR_BYTES: Final = 1 << 30
FLOOR_SHARE: Final = 0.03
DEDICATED_FLOOR_SHARE: Final = 0.05
LAST_BYTES: Final = 256 << 20
LAST_SHARE: Final = 0.01
PRESSURE_PERCENT: Final = 10.0
FALLING_LOOKS: Final = 2
RECOVERED: Final = 1.5
"""Times the floor: more than that ends an episode."""
SETTLE_S: Final = 10.0
"""What memory is given to come back after a step, before the next."""
OUT_OF_MEMORY_S: Final = 60.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryOrder:
    """What to do next. `models` to unload; `orphans`: runners to end; neither for a restart of the engine.

    `Cure.NONE`: nothing that is ours is left to free. `evidence`: one sentence of what was seen.
    """

    cure: Cure
    evidence: str
    models: tuple[str, ...] = ()
    orphans: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True)
class GuardState:
    """What the looks have shown of memory. An episode lasts until memory is well over its floor again.

    `short_s`: watched seconds under the floor; `low_s`: those without a load, since the last step. `falling_looks`: in
    a row, of a box about to fall over. `settled_s`: watched seconds since the last step. `freed`, `ended`,
    `has_restarted`, `has_told`: what this episode has tried; each thing is tried once. `stuck`: freed in vain.
    `oom_kills`: of this generation, before the episode.
    """

    is_loading: bool = False
    is_dedicated: bool = False
    since_mono: float | None = None
    short_s: float = 0.0
    low_s: float = 0.0
    falling_looks: int = 0
    settled_s: float = SETTLE_S
    step_mono: float | None = None
    freed: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    ended: frozenset[Identity] = frozenset()
    has_restarted: bool = False
    has_told: bool = False
    oom_kills: int = 0

    def after(self, look: Look, watched_s: float, *, is_loading: bool) -> GuardState:
        """With one more look; one that could not tell of memory is held against nobody.

        :param watched_s: seconds since the last look that were really watched
        """
        memory = look.memory
        state = replace(self, is_loading=is_loading, settled_s=self.settled_s + watched_s)
        if memory is None:
            return replace(state, falling_looks=0)
        if memory.is_dedicated != self.is_dedicated or memory.available_bytes > RECOVERED * floor_of(memory):
            fresh = GuardState(is_loading, memory.is_dedicated, oom_kills=look.oom_kills)
            return replace(fresh, settled_s=state.settled_s)
        state = replace(
            state, oom_kills=min(self.oom_kills, look.oom_kills)
        )  # a new generation counts from 0
        if not is_low(memory):
            return replace(state, short_s=0.0, low_s=0.0, falling_looks=0)
        is_first = self.since_mono is None
        lasted_s = 0.0 if is_first else watched_s
        is_falling = is_about_to_fall_over(memory, oom_kills=look.oom_kills - state.oom_kills)
        return replace(
            state,
            since_mono=look.now_mono if is_first else self.since_mono,
            short_s=self.short_s + lasted_s,
            low_s=0.0 if is_loading else self.low_s + lasted_s,
            falling_looks=self.falling_looks + 1 if is_falling else 0,
        )

    def after_order(self, order: MemoryOrder, now_mono: float, *, stuck: Collection[str] = ()) -> GuardState:
        """Once the order was carried out, or refused for good; without this the same one is given again.

        :param stuck: models that stayed loaded all the same
        """
        if order.cure is Cure.NONE:
            return replace(self, has_told=True)
        return replace(
            self,
            low_s=0.0,
            settled_s=0.0,
            step_mono=now_mono,
            freed=self.freed | set(order.models),
            stuck=self.stuck | set(stuck),
            ended=self.ended | set(order.orphans),
            has_restarted=self.has_restarted or order.cure is Cure.RESTART_ENGINE,
        )


def wish(
    state: GuardState,
    look: Look,
    *,
    idle: Sequence[str],
    busy: Sequence[str],
    orphans: Collection[Identity],
    limits: Limits,
) -> MemoryOrder | None:
    """The next step, or None: nothing is short, it has not lasted, or the last step may still help.

    :param state: with this look in it
    :param idle: loaded models that answer nothing, that used longest ago first
    :param busy: loaded models that are answering
    :param orphans: runners below no engine
    """
    memory = look.memory
    if memory is None or not is_low(memory) or state.has_told or state.settled_s < SETTLE_S:
        return None
    left = tuple(sorted(set(orphans) - state.ended))
    is_falling = state.falling_looks >= FALLING_LOOKS
    if not is_falling and (state.is_loading or not _has_lasted(state, look, left, limits)):
        return None
    evidence = _evidence(state, look, memory, left)
    if left:
        return MemoryOrder(Cure.END_RUNNER, evidence, orphans=left)
    names = tuple(name for name in idle if name not in state.freed)
    if names:
        is_first = not state.freed and not is_falling
        return MemoryOrder(Cure.UNLOAD, evidence, models=names[:1] if is_first else names)
    if busy and not is_falling:
        return None
    # what was unloaded and is there again was asked for: only what cannot be unloaded is worth the engine
    is_worth_it = is_falling or bool(state.stuck.intersection(idle))
    if is_worth_it and not state.has_restarted and (idle or busy or look.runners.value):
        return MemoryOrder(Cure.RESTART_ENGINE, evidence)
    told = "All that could be freed here has been: what else holds it are other programs."
    return MemoryOrder(Cure.NONE, f"{evidence} {told}")


def floor_of(memory: MemoryLook) -> float:
    """Bytes that must be available."""
    if memory.is_dedicated:
        return DEDICATED_FLOOR_SHARE * memory.total_bytes
    return max(FLOOR_BYTES, FLOOR_SHARE * memory.total_bytes)


def is_low(memory: MemoryLook) -> bool:
    """Whether less is available than must be; of a card's own memory that alone is normal."""
    return memory.available_bytes < floor_of(memory)


def is_about_to_fall_over(memory: MemoryLook, *, oom_kills: int) -> bool:
    """Whether the box itself is in danger: next to nothing is left, and a second witness says so.

    :param oom_kills: what the kernel has ended for want of memory in this episode
    """
    if memory.is_dedicated or memory.available_bytes >= max(LAST_BYTES, LAST_SHARE * memory.total_bytes):
        return False
    return oom_kills > 0 or (memory.pressure_percent or 0.0) > PRESSURE_PERCENT


def _has_lasted(state: GuardState, look: Look, orphans: Collection[Identity], limits: Limits) -> bool:
    """A card is short by what befell on it, each of which justifies one step; other memory by time."""
    if state.is_dedicated:
        return bool(orphans) or _is_short_of_card_memory(state, look)
    return state.low_s >= (limits.low_memory_s if state.step_mono is None else SETTLE_S)


def _is_short_of_card_memory(state: GuardState, look: Look) -> bool:
    if "out_of_memory" not in look.log.outcomes:
        return False
    _, last_mono = look.log.outcomes["out_of_memory"]
    is_new = state.step_mono is None or last_mono > state.step_mono
    return is_new and look.now_mono - last_mono <= OUT_OF_MEMORY_S


def _evidence(state: GuardState, look: Look, memory: MemoryLook, orphans: Collection[Identity]) -> str:
    """What was seen, in figures."""
    share = f"{memory.available_bytes // _MIB} MiB of {memory.total_bytes // _MIB} MiB"
    if memory.is_dedicated:
        why = "a runner that no engine owns holds some" if orphans else "a model did not fit a moment ago"
        return f"Only {share} of the GPU's memory are free, and {why}."
    floor = f"the floor of {int(floor_of(memory)) // _MIB} MiB"
    seen = f"Only {share} of memory are available, under {floor} for {state.short_s:.0f} s"
    if state.falling_looks < FALLING_LOOKS:
        return f"{seen}, with no load under way."
    kills = look.oom_kills - state.oom_kills
    danger = (
        f"the kernel has ended {kills} for it"
        if kills > 0
        else f"tasks wait for memory {memory.pressure_percent or 0:.0f} % of the time"
    )
    return f"{seen}, and {danger}: the box is about to fall over."
