"""Which cures fit an illness, the gentlest first, how long each may take, and how often it may be used. Pure.

`§` is facts/ollama.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.looking.witnesses import STOPPED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.history import History

ENGINE: Final = "engine"
"""The account of what befalls all of it."""
TAKES_S: Final[Mapping[Cure, float]] = {
    Cure.CONTINUE: 5.0,  # a runner continued after 6 s finished its request (§4.1)
    Cure.CANCEL_LOAD: 5.0,
    Cure.UNLOAD: 10.0,
    Cure.END_RUNNER: 10.0,  # §7 row 2; most are gone in milliseconds
    Cure.EXIT: 60.0,
}
"""How long a cure has to show that it helped; a restart has the time of its stop and of its start."""

_STEPS: Final[Mapping[Kind, tuple[Cure, ...]]] = {
    Kind.RUNNER_STUCK: (Cure.END_RUNNER, Cure.RESTART_ENGINE),
    Kind.RUNNER_FROZEN: (Cure.END_RUNNER, Cure.RESTART_ENGINE),
    Kind.RUNNER_LEAKED: (Cure.END_RUNNER,),
    Kind.RUNNER_ORPHANED: (Cure.END_RUNNER,),
    Kind.LOAD_STUCK: (Cure.CANCEL_LOAD, Cure.END_RUNNER, Cure.RESTART_ENGINE),
    Kind.LOAD_DIED: (Cure.CANCEL_LOAD, Cure.RESTART_ENGINE),
    Kind.STOPPING_STUCK: (Cure.UNLOAD, Cure.END_RUNNER),
    Kind.MODEL_DELETED: (Cure.END_RUNNER,),
    Kind.SCHEDULER_STUCK: (Cure.CANCEL_LOAD, Cure.RESTART_ENGINE),
    Kind.ENGINE_FROZEN: (Cure.RESTART_ENGINE,),
    Kind.CPU_FALLBACK: (Cure.RESTART_ENGINE, Cure.RESTART_ENGINE),
    Kind.GPU_UNREACHABLE: (Cure.EXIT,),
}
"""What is not here is noted: nothing that we could do makes it better."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A cure may be used so often within so many seconds."""

    times: int
    within_s: float


# Long enough to be spent by what comes back at once: one thread that is stuck takes 1 to 3 min to be told from slow.
BUDGETS: Final[Mapping[Cure, Budget]] = {
    Cure.CONTINUE: Budget(5, 600.0),
    Cure.CANCEL_LOAD: Budget(3, 1800.0),
    Cure.UNLOAD: Budget(10, 600.0),
    Cure.END_RUNNER: Budget(10, 1800.0),  # of one model
    Cure.RESTART_ENGINE: Budget(3, 1800.0),
    Cure.EXIT: Budget(1, 3600.0),
}
CPU_FALLBACK_TRIES: Final = Budget(2, 86_400.0)
"""§7 row 11: discovery varied between restarts; where two did not help, none does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The next cure, or why there is none."""

    cure: Cure
    why_not: tuple[str, ...] = ()


def cures_for(verdict: Verdict, history: History) -> tuple[Cure, ...]:
    """All that may help, the gentlest first; what is stopped (state T) is continued, which loses nothing."""
    steps = _STEPS.get(verdict.kind, ())
    if verdict.kind in (Kind.LOAD_STUCK, Kind.LOAD_DIED, Kind.SCHEDULER_STUCK) and not _is_own_load(
        verdict, history
    ):
        steps = tuple(cure for cure in steps if cure is not Cure.CANCEL_LOAD)
    is_older = history.engine is not None and not history.engine.look.is_llama_server
    if verdict.kind is Kind.LOAD_STUCK and is_older:
        # ≤ 0.29 never learns that a runner died before it was ready (§7 row 5), and ends a stuck load by itself
        steps = tuple(cure for cure in steps if cure is Cure.CANCEL_LOAD)
    return (Cure.CONTINUE, *steps) if _is_stopped(verdict, history) else steps


@dataclass(frozen=True, slots=True)
class Spent:
    """When each cure was used, and on what: the account of the budgets."""

    uses: tuple[tuple[Cure, str, float], ...] = field(default=())

    def with_use(self, cure: Cure, subject: str, now_mono: float) -> Spent:
        """One more use; what no budget can ask for any more is forgotten."""
        longest_s = CPU_FALLBACK_TRIES.within_s
        kept = tuple(use for use in self.uses if now_mono - use[2] <= longest_s)
        return Spent((*kept, (cure, subject, now_mono)))

    def refusal(self, cure: Cure, subject: str, budget: Budget, now_mono: float) -> str | None:
        """Why the budget forbids it; None when it does not."""
        used = [
            used_mono
            for what, on, used_mono in self.uses
            if what is cure and on == subject and now_mono - used_mono <= budget.within_s
        ]
        if len(used) < budget.times:
            return None
        return f"{cure.value} was tried {len(used)} times in the last {budget.within_s / 60:.0f} min"


def choose(
    verdict: Verdict, cures: tuple[Cure, ...], *, spent: Spent, forbidden: Mapping[Cure, str], now_mono: float
) -> Choice:
    """The gentlest of the cures that is neither forbidden nor spent; NONE with the reasons where none is left.

    :param forbidden: what must not be used now (facts/gpu.md §3.4 for the GPU), with the reasons
    """
    reasons = []
    for cure in cures:
        if cure in forbidden:
            reasons.append(forbidden[cure])
            continue
        refusal = spent.refusal(cure, subject_of(verdict, cure), budget_of(verdict, cure), now_mono)
        if refusal is None:
            return Choice(cure, tuple(reasons))
        reasons.append(refusal)
    return Choice(Cure.NONE, tuple(reasons))


def subject_of(verdict: Verdict, cure: Cure) -> str:
    """Whose budget a cure takes from: a model has one, whatever becomes of its runners; so has the engine."""
    if cure in (Cure.RESTART_ENGINE, Cure.EXIT):
        return verdict.kind.value if verdict.kind is Kind.CPU_FALLBACK else ENGINE
    if cure is Cure.CONTINUE:
        return str(verdict.runner or ENGINE)
    if cure is Cure.CANCEL_LOAD:
        return "own load"  # there is one at a time
    return verdict.blob or verdict.model or str(verdict.runner or ENGINE)


def budget_of(verdict: Verdict, cure: Cure) -> Budget:
    """How often it may be used."""
    is_fallback = verdict.kind is Kind.CPU_FALLBACK and cure is Cure.RESTART_ENGINE
    return CPU_FALLBACK_TRIES if is_fallback else BUDGETS[cure]


def _is_own_load(verdict: Verdict, history: History) -> bool:
    own = history.look.own_load if history.look else None
    return own is not None and verdict.model in (own, None)


def _is_stopped(verdict: Verdict, history: History) -> bool:
    if verdict.kind is Kind.ENGINE_FROZEN:
        process = history.engine.look.process if history.engine else None
        return process is not None and process.state == STOPPED
    if verdict.kind not in (Kind.RUNNER_FROZEN, Kind.LOAD_STUCK, Kind.RUNNER_STUCK):
        return False
    runner = history.runners.get(verdict.runner) if verdict.runner else None
    return runner is not None and runner.look.process.state == STOPPED
