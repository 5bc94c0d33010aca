"""What the looks have shown over time: for how long each thing has stood still. Pure: a fold over `Look`s.

Time counts only while it was watched: a suspended laptop, a paused machine or a starved daemon adds nothing, and a
long gap begins everything anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.history.expiries import Expiries
from arasul_supervisor.healing.history.runner_history import RunnerHistory, after_look, first_look
from arasul_supervisor.healing.history.stillness import TICKS_PER_S, Stillness
from arasul_supervisor.healing.looking.witnesses import STOPPED, TRACED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.looking.witnesses import EngineLook, Look, ModelsLook
    from arasul_supervisor.supervision.process_looks import Identity

GAP_S: Final = 15.0
CLOCK_STEP_S: Final = 5.0
LONGEST_STEP_S: Final = 5.0
"""Two looks are 2 s apart, and one that waits for silent runners takes 2 s more."""
FRESH_MODELS_S: Final = 15.0
SERVED_TICKS: Final = 2
"""Between two looks: our own questions cost one tick in 25 of them, and an idle runner uses none (0.34.4)."""


@dataclass(frozen=True, slots=True)
class EngineHistory:
    """The engine's process over time, in watched seconds.

    `silent_s`: without an answered heartbeat, since `silent_from_ticks` of processor time. `unswapped_s`: without a
    page that had to come from a disk.
    """

    look: EngineLook
    still: Stillness
    silent_s: float = 0.0
    silent_from_ticks: int | None = None
    stopped_s: float = 0.0
    unswapped_s: float = 0.0

    @property
    def cpu_share(self) -> float:
        """How much of one processor it has had while it was silent."""
        if self.silent_from_ticks is None or self.look.process is None or self.silent_s == 0:
            return 0.0
        return (self.look.process.cpu_ticks - self.silent_from_ticks) / TICKS_PER_S / self.silent_s


@dataclass(frozen=True, slots=True)
class Departed:
    """A runner that is gone: who it was, and when it was missed first."""

    runner: RunnerHistory
    missed_mono: float


@dataclass(frozen=True, slots=True)
class History:
    """All that a diagnosis rests on. `expiries`: when Ollama is to unload what it lists.

    `past_s`: by name, for how many watched seconds Ollama has listed a model past its time. `nothing_works_s`: no
    runner has had a request or a load, nor is a client known that does not read. `dying_s`: runners have kept dying,
    with none alive. `gpu_idle_s`: the GPU has had no load. `gap_mono`: when watching was interrupted last, by a pause
    of the daemon or of the whole box.
    """

    look: Look | None = None
    step_s: float = 0.0
    generation: int = 0
    engine: EngineHistory | None = None
    runners: Mapping[Identity, RunnerHistory] = field(default_factory=dict)
    departed: tuple[Departed, ...] = ()
    past_s: Mapping[str, float] = field(default_factory=dict)
    expiries: Expiries = field(default_factory=Expiries)
    nothing_works_s: float = 0.0
    dying_s: float = 0.0
    gpu_idle_s: float = 0.0
    own_load_s: float = 0.0
    gap_mono: float | None = None

    @property
    def models(self) -> ModelsLook | None:
        """What Ollama lists, if that was asked lately; a list that is older proves nothing any more."""
        if self.look is None:
            return None
        age_s = self.look.models.age_s(self.look.now_mono)
        return self.look.models.value if age_s is not None and age_s <= FRESH_MODELS_S else None

    @property
    def is_gpu_load_known(self) -> bool:
        """Whether a GPU tells of its load."""
        gpu = self.look.gpu if self.look else None
        return gpu is not None and gpu.load_percent is not None

    @property
    def needs_unread(self) -> bool:
        """Whether it decides what the engine's clients have not read: one that does not read holds up what waits."""
        is_waited_for = self.own_load_s > 0 or (
            self.look is not None and "too_many_requests" in self.look.log.outcomes
        )
        return bool(self.past_s) or (is_waited_for and self.nothing_works_s > 0)

    @property
    def at_rest(self) -> frozenset[Identity]:
        """Runners for which nobody waits: they are not loading, have no connection, and answered the last question.

        None of them while the engine's own queue is looked at: then all may be what is waited for.
        """
        if self.needs_unread:
            return frozenset()
        return frozenset(
            identity
            for identity, one in self.runners.items()
            if one.is_busy is False and not one.is_loading and not one.unanswered
        )

    def name_of(self, blob: str | None) -> str | None:
        """The name that Ollama last listed those weights by."""
        models = self.look.models.value if self.look else None
        if models is None or blob is None:
            return None
        return next((name for name, blobs in models.blobs.items() if blob in blobs), None)

    def after(self, look: Look, *, away_s: float = 0.0) -> History:
        """The history with one more look.

        :param away_s: of the time since the last one, what our own cures took: that is no pause of the box
        """
        step_s, is_gap = self._step(look, away_s)
        if look.engine is None:
            return History(look, step_s, self.generation, gap_mono=self.gap_mono)
        known = History()
        if look.engine.generation == self.generation:
            known = History(expiries=self.expiries) if is_gap else self
        expiries = known.expiries.after(look, self._clock_step_s(look))
        runners = known._runners(look, step_s)
        now_idle = look.gpu is not None and look.gpu.load_percent is not None and look.gpu.load_percent <= 1.0
        history = replace(
            known,
            look=look,
            step_s=step_s,
            generation=look.engine.generation,
            engine=known._engine(look.engine, step_s),
            runners=runners,
            departed=known._departed(look, runners),
            expiries=expiries,
            past_s=known._past(look, expiries, step_s),
            gpu_idle_s=known.gpu_idle_s + step_s if now_idle else 0.0,
            own_load_s=known.own_load_s + step_s if look.own_load else 0.0,
            gap_mono=look.now_mono if is_gap else self.gap_mono,
        )
        return replace(
            history,
            nothing_works_s=0.0 if history._may_work(known) else known.nothing_works_s + step_s,
            dying_s=known.dying_s + step_s if history._is_dying(known) else 0.0,
        )

    def _step(self, look: Look, away_s: float) -> tuple[float, bool]:
        """Watched seconds since the last look, and whether watching was interrupted before this one."""
        last = self.look
        if last is None:
            return 0.0, False
        passed_s = look.now_mono - last.now_mono
        if passed_s - away_s > GAP_S or abs(self._clock_step_s(look)) > CLOCK_STEP_S:
            return 0.0, True
        return min(max(0.0, passed_s), LONGEST_STEP_S), False

    def _clock_step_s(self, look: Look) -> float:
        """By how much the clock on the wall has gone more than the other one."""
        last = self.look
        return look.now_wall - last.now_wall - (look.now_mono - last.now_mono) if last else 0.0

    def _engine(self, look: EngineLook, step_s: float) -> EngineHistory:
        before = self.engine
        if before is None:
            ticks = look.process.cpu_ticks if look.process is not None else None
            return EngineHistory(look, Stillness(look.process), silent_from_ticks=ticks)
        process, last = look.process, before.look.process
        is_stopped = process is not None and process.state == STOPPED
        was_stopped = last is not None and last.state == STOPPED
        is_silent = look.missed_beats > 0 and not (process is not None and process.state == TRACED)
        ticks = before.silent_from_ticks
        if not before.look.missed_beats or ticks is None:
            ticks = process.cpu_ticks if process is not None else None
        is_swapped = process is not None and last is not None and process.major_faults != last.major_faults
        return EngineHistory(
            look,
            still=before.still.after(process, step_s),
            # what went by before the first sign counts for nothing
            silent_s=before.silent_s + step_s if is_silent and before.look.missed_beats else 0.0,
            silent_from_ticks=ticks if is_silent else None,
            stopped_s=before.stopped_s + step_s if is_stopped and was_stopped else 0.0,
            unswapped_s=0.0 if is_swapped else before.unswapped_s + step_s,
        )

    def _runners(self, look: Look, step_s: float) -> dict[Identity, RunnerHistory]:
        """Each runner with one more look; those that could not be looked at stay as they are."""
        if look.runners.value is None:
            return dict(self.runners)
        found = {}
        for runner in look.runners.value:
            before = self.runners.get(runner.identity)
            one = (
                first_look(runner, look.now_mono)
                if before is None
                else after_look(before, runner, now_mono=look.now_mono, step_s=step_s)
            )
            found[runner.identity] = replace(one, unlisted_s=self._unlisted(one, look, step_s))
        return found

    def _unlisted(self, runner: RunnerHistory, look: Look, step_s: float) -> float:
        """How long it has served without being listed; a list from before it served says nothing."""
        models, asked_mono = look.models.value, look.models.taken_mono
        if models is None or asked_mono is None or runner.served_mono is None:
            return 0.0
        if asked_mono <= runner.served_mono or look.now_mono - asked_mono > FRESH_MODELS_S:
            return runner.unlisted_s
        listed = frozenset().union(*models.blobs.values()) if models.blobs else frozenset()
        # a name whose newer version was pulled is listed for a runner with weights that it has no more
        are_found = all(blobs & self._served_blobs(look) for blobs in models.blobs.values())
        is_certain = (
            are_found
            and len(models.blobs) == len(models.loaded)
            and (runner.look.blob is not None or not models.loaded)
        )
        if not is_certain or runner.look.blob in listed:
            return 0.0
        return runner.unlisted_s + step_s

    def _served_blobs(self, look: Look) -> frozenset[str]:
        return frozenset(one.blob for one in look.runners.value or () if one.blob is not None)

    def _departed(self, look: Look, runners: Mapping[Identity, RunnerHistory]) -> tuple[Departed, ...]:
        kept = [one for one in self.departed if look.now_mono - one.missed_mono <= FRESH_MODELS_S]
        gone = [one for identity, one in self.runners.items() if identity not in runners]
        return (*kept, *(Departed(one, look.now_mono) for one in gone))

    def _past(self, look: Look, expiries: Expiries, step_s: float) -> dict[str, float]:
        models, age_s = look.models.value, look.models.age_s(look.now_mono)
        if models is None or age_s is None or age_s > FRESH_MODELS_S:
            return dict(self.past_s)
        past = [name for name in models.expires_in_s if expiries.is_past(name, look.now_mono)]
        # a client that does not read keeps its model, long after the runner has done its part (measured on 0.34.4)
        unread = look.engine.unread_bytes if look.engine else None
        if unread:
            return dict.fromkeys(past, 0.0)
        return {name: self.past_s.get(name, 0.0) + (0.0 if unread is None else step_s) for name in past}

    def _may_work(self, before: History) -> bool:
        """Whether a runner works, or has since the last look: a request may be over before a look meets it."""
        look = self.look
        if look is None or look.runners.value is None or look.engine is None or look.engine.missed_beats:
            return True  # what is held up in the engine shows nothing
        if look.engine.unread_bytes:
            return True  # a client that does not read keeps its model, and nothing is loaded in its place
        return any(
            one.is_working or one.still.for_s == 0 or _cpu_ticks_since(before, identity, one) >= SERVED_TICKS
            for identity, one in self.runners.items()
        )

    def _is_dying(self, before: History) -> bool:
        """The log tells of deaths now, and nothing loads or was loaded (§7 row 5); what had been loaded goes on."""
        ours = {identity: one for identity, one in self.runners.items() if not one.look.is_orphan}
        is_new = any(one.is_loading or identity not in before.runners for identity, one in ours.items())
        if self.look is None or self.look.runners.value is None or is_new:
            return False
        _, last_mono = self.look.log.outcomes.get("runner_died", (0, float("-inf")))
        return self.look.now_mono - last_mono <= LONGEST_STEP_S


def _cpu_ticks_since(before: History, identity: Identity, runner: RunnerHistory) -> int:
    known = before.runners.get(identity)
    return runner.look.process.cpu_ticks - known.look.process.cpu_ticks if known is not None else 0
