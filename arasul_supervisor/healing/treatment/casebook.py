"""The illnesses that are being treated: one case each, its cures in their order, and whether they helped. Pure.

Fed with the verdicts of each look; says what to do next. Whoever does it says nothing back: what counts is only what
the later looks show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Cure, Kind
from arasul_supervisor.healing.treatment.ladder import ENGINE, TAKES_S, Spent, choose, cures_for, subject_of
from arasul_supervisor.healing.treatment.proof import is_cures_doing, outlives, proof_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.supervision.process_looks import Identity

RESTED_S: Final = 600.0
"""A case that was given up is taken up again after so long, when the budgets have room again."""
_PATIENT: Final = frozenset({Kind.CPU_FALLBACK, Kind.GPU_UNREACHABLE})
WELL_LOOKS: Final = 2
"""An illness is over when so many looks in a row did not show it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new case; `cure` is what will be done about it first, NONE where nothing is."""

    verdict: Verdict
    cure: Cure
    detail: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """Do that now."""

    verdict: Verdict
    cure: Cure
    why: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A case is over: `cured`, `recovered`, `gave_up`, `failed`, `observed` or `noted`, with what shows it."""

    verdict: Verdict
    result: str
    detail: str
    ill_s: float


Event = Opened | Ordered | Closed


@dataclass(frozen=True, slots=True)
class Case:
    """One illness under treatment. `left` are the cures that were not tried; `cure` the one under way."""

    verdict: Verdict
    opened_mono: float
    left: tuple[Cure, ...]
    cure: Cure = Cure.NONE
    until_mono: float = 0.0
    generation: int = 0
    well_looks: int = 0
    is_told: bool = False  # closed for its incident, and kept so that the same is not told at each look
    again_mono: float | None = None  # when a case that was given up is taken up again


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows from one look: the book as it is now, and what to do and to write, in this order."""

    book: CaseBook
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class CaseBook:
    """All cases, by the subject of their verdict, and the account of what was used."""

    restart_s: float
    is_acting: bool = True
    cases: Mapping[str, Case] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    def after(
        self,
        verdicts: Sequence[Verdict],
        history: History,
        *,
        forbidden: Mapping[Cure, str] | None = None,
    ) -> Turn:
        """One look later.

        :param verdicts: all that is wrong now; only what is certain opens a case
        :param forbidden: cures that must not be used now, each with the reason
        """
        if history.look is None:
            return Turn(self, ())
        now_mono = history.look.now_mono
        certain = {one.subject: one for one in verdicts if one.certainty is Certainty.CERTAIN}
        book, events = self, list[Event]()
        for subject, case in self.cases.items():
            book, more = book._go_on(subject, case, certain.get(subject), history, forbidden or {}, now_mono)
            events += more
        for subject, verdict in certain.items():
            if subject not in book.cases and not book._treats(verdict.runner):
                book, more = book._open(verdict, history, forbidden or {}, now_mono)
                events += more
        return Turn(book, tuple(events))

    def with_exit(self, used_mono: float) -> CaseBook:
        """With a use of EXIT by an earlier life, at that instant of this one's clock."""
        return replace(self, spent=self.spent.with_use(Cure.EXIT, ENGINE, used_mono))

    def _treats(self, runner: Identity | None) -> bool:
        """Whether that runner is under treatment already, for what it looked like then, or was just given up."""
        return runner is not None and any(
            case.verdict.runner == runner and (not case.is_told or case.again_mono is not None)
            for case in self.cases.values()
        )

    def _open(
        self, verdict: Verdict, history: History, forbidden: Mapping[Cure, str], now_mono: float
    ) -> tuple[CaseBook, list[Event]]:
        cures = cures_for(verdict, history)
        case = Case(verdict, now_mono, cures, generation=history.generation)
        choice = choose(verdict, cures, spent=self.spent, forbidden=forbidden, now_mono=now_mono)
        opened = Opened(verdict, choice.cure, verdict.evidence)
        if not cures:
            told = Closed(verdict, "noted", "Nothing that the daemon could do makes it better.", 0.0)
            return self._with(replace(case, is_told=True)), [opened, told]
        if not self.is_acting and choice.cure is not Cure.NONE:
            said = f"ARASUL_HEAL=observe: {choice.cure.value} would have been the cure."
            return self._with(replace(case, is_told=True)), [opened, Closed(verdict, "observed", said, 0.0)]
        if _waits_for_answers(case, history):
            return self._with(case), [opened]
        book, events = self._next(case, history, forbidden, now_mono)
        return book, [opened, *events]

    def _go_on(
        self,
        subject: str,
        case: Case,
        verdict: Verdict | None,
        history: History,
        forbidden: Mapping[Cure, str],
        now_mono: float,
    ) -> tuple[CaseBook, list[Event]]:
        """Whether it is over, goes on, or needs the next cure."""
        proof = proof_of(case.verdict, verdict, history, cure=case.cure, generation=case.generation)
        if proof is not None:
            if case.well_looks + 1 < WELL_LOOKS:
                return self._with(replace(case, well_looks=case.well_looks + 1)), []
            return self._without(subject), [] if case.is_told else [_over(case, proof, history, now_mono)]
        case = replace(case, well_looks=0, verdict=verdict or case.verdict)
        if case.is_told:
            is_rested = case.again_mono is not None and now_mono >= case.again_mono
            return (self._without(subject) if is_rested else self._with(case)), []
        if verdict is None and not outlives(case.verdict, history, cure=case.cure):
            return self._with(case), []  # neither over nor seen: no reason to do more
        is_waiting = now_mono < case.until_mono and not _is_back_in_vain(case, verdict, history)
        if is_waiting or _waits_for_answers(case, history):
            return self._with(case), []
        return self._next(case, history, forbidden, now_mono)

    def _next(
        self, case: Case, history: History, forbidden: Mapping[Cure, str], now_mono: float
    ) -> tuple[CaseBook, list[Event]]:
        """The next cure that is left; none: the case is given up, and says why."""
        verdict, left = case.verdict, case.left
        if case.cure is Cure.END_RUNNER:
            # what outlives SIGKILL would outlive the engine too, and no other is started beside it (CONTRACT §3)
            left = tuple(cure for cure in left if cure is not Cure.RESTART_ENGINE)
        choice = choose(verdict, left, spent=self.spent, forbidden=forbidden, now_mono=now_mono)
        if choice.cure is Cure.NONE:
            rests = replace(case, is_told=True, again_mono=now_mono + RESTED_S)
            return self._with(rests), [_given_up(case, choice.why_not, history, now_mono)]
        left = left[left.index(choice.cure) + 1 :]
        takes_s = TAKES_S.get(choice.cure, self.restart_s)
        ordered = Ordered(verdict, choice.cure, "; ".join(_tried(case, choice.why_not)))
        treated = replace(
            case,
            left=left,
            cure=choice.cure,
            until_mono=now_mono + takes_s,
            generation=history.generation,
            well_looks=0,
        )
        spent = self.spent.with_use(choice.cure, subject_of(verdict, choice.cure), now_mono)
        return replace(self._with(treated), spent=spent), [ordered]

    def _with(self, case: Case) -> CaseBook:
        return replace(self, cases={**self.cases, case.verdict.subject: case})

    def _without(self, subject: str) -> CaseBook:
        return replace(self, cases={key: case for key, case in self.cases.items() if key != subject})


def _waits_for_answers(case: Case, history: History) -> bool:
    """What runs on a CPU or with an open GPU goes on: a cure would cut its answers off, and waiting loses nothing."""
    return case.verdict.kind in _PATIENT and any(runner.is_busy for runner in history.runners.values())


def _is_back_in_vain(case: Case, verdict: Verdict | None, history: History) -> bool:
    """A new engine has the illness of the old one: no need to wait for more."""
    return case.cure is Cure.RESTART_ENGINE and verdict is not None and history.generation > case.generation


def _over(case: Case, proof: str, history: History, now_mono: float) -> Closed:
    is_ours = is_cures_doing(proof, case.cure, history, case.verdict.runner)
    result = "cured" if is_ours else "recovered"
    return Closed(case.verdict, result, proof, now_mono - case.verdict.since_mono)


def _given_up(case: Case, why_not: Sequence[str], history: History, now_mono: float) -> Closed:
    tried = "; ".join(_tried(case, why_not)) or "no cure is left"
    advice = _advice(case, history)
    return Closed(
        case.verdict,
        "gave_up",
        f"{tried[0].upper()}{tried[1:].rstrip('.')}. {advice}",
        now_mono - case.verdict.since_mono,
    )


def _tried(case: Case, why_not: Sequence[str]) -> Sequence[str]:
    """The cure that did not help, if there was one, and why others were not used."""
    return why_not if case.cure is Cure.NONE else (f"{case.cure.value} did not help in time", *why_not)


def _advice(case: Case, history: History) -> str:
    """What a person may do where we stop trying."""
    if outlives(case.verdict, history, cure=case.cure):
        return "The runner outlives SIGKILL: it sleeps in the kernel (state D), and the box needs a reboot."
    if case.verdict.kind in (Kind.CPU_FALLBACK, Kind.GPU_UNREACHABLE, Kind.GPU_BROKEN):
        return "`arasul-supervisor doctor` says what keeps the GPU from Ollama."
    return "It is tried again in 10 min; POST /api/gpu/recover or /api/process/restart do it at once."
