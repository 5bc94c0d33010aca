"""When the GPU is sick, or the engine does not use it, and which cures are worse than that. Pure.

`§7` is facts/ollama.md; what a state of the GPU forbids stands in facts/gpu.md §3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.looking.witnesses import GpuLook, Look

TWO_LOOKS: Final = 2
WELL_FOR_S: Final = 5.0
"""The GPU is asked every 5 s, so that two looks so far apart are two answers of it."""
UNREACHABLE_FOR_S: Final = 10.0
STUCK_FOR_S: Final = 60.0
FAULTS: Final = 3
FAULTS_WITHIN_S: Final = 600.0
_NO_RESTART_HEALS: Final = ("gpu_no_access", "gpu_driver")
_BROKEN_AFTER_S: Final[Mapping[str, float]] = {"lost": 0.0, "reset_required": 0.0, "stuck": STUCK_FOR_S}

_FOR_THE_HOST: Final = frozenset({Cure.RESTART_ENGINE, Cure.EXIT})
_FORBIDDEN: Final[Mapping[str, frozenset[Cure]]] = {
    "lost": _FOR_THE_HOST,
    "reset_required": _FOR_THE_HOST,
    "stuck": _FOR_THE_HOST,
    "driver_mismatch": _FOR_THE_HOST,
    "no_access": frozenset({Cure.RESTART_ENGINE}),
}


def forbidden_cures(gpu_state: str) -> frozenset[Cure]:
    """What must not be done while the GPU is in this state, whatever the illness.

    An engine that is started anew cannot open such a GPU, while what runs on it may go on. Leaving gives only a
    container that lost its device another one; in the other states the next life cannot open it either, and a
    container may not even start.
    """
    return _FORBIDDEN.get(gpu_state, frozenset())


@dataclass(frozen=True, slots=True)
class Lasting:
    """Something that was so at each look since the first: watched seconds, looks, and when it began."""

    since_mono: float
    for_s: float = 0.0
    looks: int = 1

    def after(self, watched_s: float) -> Lasting:
        """With one more look that showed it."""
        return Lasting(self.since_mono, self.for_s + watched_s, self.looks + 1)


@dataclass(frozen=True, slots=True)
class GpuWatch:
    """What the looks have shown of the GPU so far.

    `in_state`: how long it has been in the state of `gpu`. `falls_back`: how long it has been well beside an engine
    that computes on the CPU and need not. `faults_mono`: when the engine's log told of the last few GPU faults;
    `fault_count`: how many it had told of in this `generation`.
    """

    gpu: GpuLook | None = None
    in_state: Lasting | None = None
    falls_back: Lasting | None = None
    generation: int = 0
    fault_count: int = 0
    faults_mono: tuple[float, ...] = ()

    def after(self, look: Look, watched_s: float) -> GpuWatch:
        """The watch with one more look.

        :param watched_s: seconds since the last look that were really watched
        """
        gpu, now_mono = look.gpu, look.now_mono
        is_same = gpu is not None and self.gpu is not None and gpu.state == self.gpu.state
        falls_back = self.falls_back if look.engine and look.engine.generation == self.generation else None
        watch = replace(
            self,
            gpu=gpu,
            in_state=_lasting(self.in_state if is_same else None, now_mono, watched_s) if gpu else None,
            falls_back=_lasting(falls_back, now_mono, watched_s) if _is_left_alone(look) else None,
        )
        return watch._with_faults(look)

    def verdicts(self, now_mono: float) -> tuple[Verdict, ...]:
        """What is certain, the gravest first."""
        found = (self._broken(), self._faulty(now_mono), self._unreachable(), self._fallen_back())
        return tuple(verdict for verdict in found if verdict is not None)

    def _with_faults(self, look: Look) -> GpuWatch:
        """Count the faults that are new in the log; one of a run that tells several times counts once."""
        if look.engine is None:
            return self
        count, last_mono = look.log.outcomes.get("gpu_fault", (0, 0.0))
        before = self.fault_count if look.engine.generation == self.generation else 0
        fresh = min(max(0, count - before), FAULTS)
        return replace(
            self,
            generation=look.engine.generation,
            fault_count=count,
            faults_mono=(*self.faults_mono, *(last_mono,) * fresh)[-FAULTS:],
        )

    def _broken(self) -> Verdict | None:
        if self.gpu is None or self.in_state is None or self.in_state.looks < TWO_LOOKS:
            return None
        after_s = _BROKEN_AFTER_S.get(self.gpu.state)
        if after_s is None or self.in_state.for_s < after_s:
            return None
        return Verdict(
            Kind.GPU_BROKEN,
            f"The GPU is in state {self.gpu.state} {_for(self.in_state)}: {_first_sentence(self.gpu.sentence)}",
            since_mono=self.in_state.since_mono,
        )

    def _faulty(self, now_mono: float) -> Verdict | None:
        """§7 row 14: a runner that is started anew has a new context, so that only faults in a row are the GPU's."""
        recent = [mono for mono in self.faults_mono if now_mono - mono <= FAULTS_WITHIN_S]
        if len(recent) < FAULTS:
            return None
        return Verdict(
            Kind.GPU_BROKEN,
            f"The engine's log tells of {len(recent)} GPU faults within {now_mono - recent[0]:.0f} s, each in a fresh "
            "start of a runner.",
            since_mono=recent[0],
        )

    def _unreachable(self) -> Verdict | None:
        """§7 row 12. A GPU that never answered in this life is no loss, and a new start would not change that."""
        gpu, in_state = self.gpu, self.in_state
        if gpu is None or in_state is None or gpu.state != "no_access" or not gpu.has_worked or gpu.is_well:
            return None
        if in_state.looks < TWO_LOOKS or in_state.for_s < UNREACHABLE_FOR_S:
            return None
        return Verdict(
            Kind.GPU_UNREACHABLE,
            f"The GPU worked and is out of reach {_for(in_state)}: {_first_sentence(gpu.sentence)}",
            since_mono=in_state.since_mono,
        )

    def _fallen_back(self) -> Verdict | None:
        """§7 row 11."""
        lasting = self.falls_back
        if self.gpu is None or lasting is None or lasting.looks < TWO_LOOKS or lasting.for_s < WELL_FOR_S:
            return None
        return Verdict(
            Kind.CPU_FALLBACK,
            f"The engine's log said at its start that it computes on the CPU, and a GPU has answered "
            f"{_for(lasting)}: {_first_sentence(self.gpu.sentence)}",
            since_mono=lasting.since_mono,
        )


def _is_left_alone(look: Look) -> bool:
    """Whether a GPU answers now that the engine does not use, for no reason that a new start leaves as it is."""
    return (
        look.engine is not None
        and look.gpu is not None
        and look.gpu.is_well
        and look.log.is_on_cpu
        and look.cpu_wish is None
        and not any(outcome in look.log.outcomes for outcome in _NO_RESTART_HEALS)
    )


def _lasting(before: Lasting | None, now_mono: float, watched_s: float) -> Lasting:
    return Lasting(now_mono) if before is None else before.after(watched_s)


def _for(lasting: Lasting) -> str:
    return f"for {lasting.for_s:.0f} s ({lasting.looks} looks)"


def _first_sentence(text: str) -> str:
    """What was seen; what to do about it is said elsewhere."""
    return f"{text.partition('. ')[0].rstrip('.')}."
