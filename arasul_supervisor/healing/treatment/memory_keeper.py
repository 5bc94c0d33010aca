"""Carries out what the memory guard wishes, and keeps one incident for each time that memory ran short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind, Verdict
from arasul_supervisor.healing.incidents.incident import Result
from arasul_supervisor.healing.incidents.incident_words import figures
from arasul_supervisor.healing.treatment.memory_guard import GuardState, wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.healing.aftermath.engine_ends import EngineEnds
    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.incidents.incident_book import IncidentBook
    from arasul_supervisor.healing.treatment.cures import Cures
    from arasul_supervisor.healing.treatment.memory_guard import MemoryOrder


class MemoryKeeper:
    """Owns the guard's state. Works in the healer's turn."""

    def __init__(self, cures: Cures, incidents: IncidentBook, *, ends: EngineEnds, limits: Limits) -> None:
        self._cures, self._incidents, self._ends, self._limits = cures, incidents, ends, limits
        self._state = GuardState()
        self._incident: str | None = None
        self._is_only_observed = self._has_told = False

    @property
    def is_low(self) -> bool:
        """Whether memory is short now, so that nothing more should be loaded."""
        return self._state.since_mono is not None

    def see(self, history: History) -> None:
        """One look, with nothing done about it."""
        if history.look is not None:
            runners = [one for one in history.runners.values() if not one.look.is_orphan]
            is_loading = any(one.is_loading for one in runners) or history.look.own_load is not None
            self._state = self._state.after(history.look, history.step_s, is_loading=is_loading)

    async def take_turn(
        self, history: History, *, is_acting: bool, forbidden: Mapping[Cure, str] | None = None
    ) -> None:
        """One look: the next step, if one is due.

        :param forbidden: cures that must not be used now, each with the reason
        """
        self.see(history)
        look = history.look
        if look is None:
            return
        if not self.is_low:
            self._end_episode(history)
            return
        if look.engine is None:
            return  # what it held is gone with it, and what it will hold is not there yet
        orphans = [one.look.identity for one in history.runners.values() if one.look.is_orphan]
        idle, busy = _idle_and_busy(history)
        order = wish(self._state, look, idle=idle, busy=busy, orphans=orphans, limits=self._limits)
        if order is None or self._is_only_observed:
            return
        if order.cure is Cure.NONE:
            self._tell_nothing_left(order, history)
        elif is_acting:
            await self._carry_out(order, history, forbidden or {})
        else:
            self._observe(order, history)

    def _tell_nothing_left(self, order: MemoryOrder, history: History) -> None:
        """Once an episode, and not to the guard: what is loaded later can be freed again."""
        if not self._has_told:
            self._has_told = True
            incident = self._incident or self._open(Cure.NONE, order.evidence, history)
            told = f"Nothing of ours is left to free. {order.evidence}"
            self._incidents.add_step(incident, Cure.NONE, told)

    async def _carry_out(self, order: MemoryOrder, history: History, forbidden: Mapping[Cure, str]) -> None:
        cure = Cure.NONE if order.cure in forbidden else order.cure
        incident = self._incident or self._open(cure, order.evidence, history)
        now_mono = history.look.now_mono if history.look else 0.0
        self._state = self._state.after_order(order, now_mono)
        if order.cure in forbidden:
            self._incidents.add_step(incident, Cure.NONE, f"{forbidden[order.cure]}. {order.evidence}")
            return
        self._incidents.add_step(incident, order.cure, order.evidence)
        if order.cure is Cure.END_RUNNER:
            await self._cures.end_runners(order.orphans)
        elif order.cure is Cure.UNLOAD:
            stuck = await self._unload(order.models, incident)
            self._state = self._state.after_order(order, now_mono, stuck=stuck)
        elif order.cure is Cure.RESTART_ENGINE:
            self._ends.expect_restart(history.generation, restored_in=None)
            verdict = Verdict(Kind.MEMORY_LOW, order.evidence, since_mono=self._state.since_mono or 0.0)
            await self._cures.apply(order.cure, verdict, history)

    async def _unload(self, models: Sequence[str], incident: str) -> Sequence[str]:
        """All at once, for each takes up to 5 s, and nothing is looked at meanwhile; those that stay."""
        are_gone = await asyncio.gather(*map(self._cures.unload, models))
        left = [model for model, is_gone in zip(models, are_gone, strict=True) if not is_gone]
        if left:
            self._incidents.add_step(incident, Cure.NONE, f"Still loaded afterwards: {', '.join(left)}.")
        return left

    def _observe(self, order: MemoryOrder, history: History) -> None:
        self._is_only_observed = True
        incident = self._incident or self._open(order.cure, order.evidence, history)
        models = f" of {', '.join(order.models)}" if order.models else ""
        self._incidents.close(
            incident,
            result=Result.OBSERVED,
            detail=f"ARASUL_HEAL=observe: {order.cure.value}{models} would have been the cure.",
        )
        self._incident = None

    def _open(self, cure: Cure, evidence: str, history: History) -> str:
        self._incident = self._incidents.open(
            Kind.MEMORY_LOW,
            what="Memory runs out.",
            evidence=evidence,
            action=cure,
            generation=history.generation,
            log_tail=self._cures.log_tail(history.generation),
            before=figures(history),
        )
        return self._incident

    def _end_episode(self, history: History) -> None:
        self._is_only_observed = self._has_told = False
        incident_id, self._incident = self._incident, None
        if incident_id is None:
            return
        is_cured = self._incidents.get(incident_id).action != Cure.NONE.value
        self._incidents.close(
            incident_id,
            result=Result.CURED if is_cured else Result.RECOVERED,
            detail="Memory is available again.",
            after=figures(history),
        )


def _idle_and_busy(history: History) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the loaded models: those that rest, the one that rested longest first, and the others.

    What a runner does is seen, also where Ollama does not say what it holds: then it has no name, and may be busy.
    """
    models = history.models
    listed = {model.name for model in models.loaded} if models else set[str]()
    resting: list[tuple[float, str]] = []
    busy: list[str] = []
    for runner in history.runners.values():
        name = history.name_of(runner.look.blob)
        if runner.look.is_orphan:
            continue
        if runner.is_busy is not False:
            busy.append(name or "a model")
        elif name in listed and name is not None:
            resting.append((-runner.idle_s, name))
    return tuple(name for _, name in sorted(resting)), tuple(busy)
