"""What shows that an illness is over, and what shows that a cure has failed. Pure.

Nothing is called cured for want of a witness: while nobody could look, a case stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from arasul_supervisor.healing.looking.witnesses import STOPPED

if TYPE_CHECKING:
    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.supervision.process_looks import Identity, ProcessLook

ENGINE_ENDED: Final = "The engine that had it has ended."
BLIND_S: Final = 180.0
"""After a gap, the longest that a diagnosis takes at the usual limits."""


def proof_of(
    ill: Verdict, verdict: Verdict | None, history: History, *, cure: Cure, generation: int
) -> str | None:
    """The sentence that shows that it is over; None while nothing does.

    :param ill: what was found first
    :param verdict: the same illness as found now; None: it is not
    :param cure: what was done last
    :param generation: the engine's, when that was done
    """
    if cure is Cure.RESTART_ENGINE:
        return _of_restart(ill, verdict, history, generation)
    if ill.runner is not None:
        return _of_runner(ill, ill.runner, verdict, history, cure, generation)
    if verdict is not None or cure is Cure.EXIT:
        return None
    if ill.kind is Kind.ENGINE_FROZEN:
        engine = history.engine.look if history.engine else None
        is_answering = engine is not None and engine.missed_beats == 0 and not _stands(engine.process)
        return "Ollama answers its heartbeat." if is_answering else None
    return None if _is_blind(history) else "It is not seen any more."


def is_cures_doing(proof: str, cure: Cure, history: History, runner: Identity | None) -> bool:
    """Whether the last cure is what helped: nothing that was continued is cured by its end."""
    if cure is Cure.NONE or proof == ENGINE_ENDED:
        return False
    return cure is not Cure.CONTINUE or runner is None or runner in history.runners


def outlives(ill: Verdict, history: History, *, cure: Cure) -> bool:
    """Whether a runner is there, and does nothing, though it was killed."""
    runner = history.runners.get(ill.runner) if ill.runner and cure is Cure.END_RUNNER else None
    return runner is not None and runner.still.for_s > 0


def _of_restart(ill: Verdict, verdict: Verdict | None, history: History, generation: int) -> str | None:
    is_new = history.engine is not None and history.generation > generation
    if not is_new or _is_on_cpu_again(ill, history):
        return None
    if verdict is None or ill.runner is not None:
        return f"Generation {history.generation} of the engine answers."
    return None


def _of_runner(
    ill: Verdict, runner: Identity, verdict: Verdict | None, history: History, cure: Cure, generation: int
) -> str | None:
    look = history.look
    if look is not None and look.engine is None:
        return ENGINE_ENDED
    if look is None or look.runners.value is None:
        return None  # nobody could look: that it is not among the runners proves nothing
    if history.generation != generation:
        return ENGINE_ENDED
    if runner not in history.runners:
        return f"The runner {runner[0]} is gone."
    if verdict is not None:
        return None
    seen = history.runners[runner]
    if cure is Cure.CONTINUE:  # that the kernel lets it run proves nothing
        return (
            None if seen.is_silent or _stands(seen.look.process) else f"The runner {runner[0]} answers again."
        )
    if cure is Cure.END_RUNNER:
        return (
            f"The runner {runner[0]} works again." if seen.still.for_s == 0 and not seen.is_silent else None
        )
    if cure is Cure.UNLOAD and _is_listed(ill.model, history):
        return None
    return None if _is_blind(history) else "It is not seen any more."


def _is_listed(model: str | None, history: History) -> bool:
    models = history.look.models.value if history.look else None
    return models is not None and any(one.name == model for one in models.loaded)


def _is_blind(history: History) -> bool:
    """Whether the looks could not show an illness now if it were there."""
    look, engine = history.look, history.engine
    if look is None or engine is None or look.runners.value is None or engine.look.missed_beats:
        return True
    return history.gap_mono is not None and look.now_mono - history.gap_mono < BLIND_S


def _is_on_cpu_again(ill: Verdict, history: History) -> bool:
    """The new engine has said so, and it takes a while until that is a verdict again."""
    look = history.look
    is_well = look is not None and look.gpu is not None and look.gpu.is_well
    return ill.kind is Kind.CPU_FALLBACK and is_well and look is not None and look.log.is_on_cpu


def _stands(process: ProcessLook | None) -> bool:
    """Whether it is stopped now: what it answered before that proves nothing."""
    return process is not None and process.state == STOPPED
