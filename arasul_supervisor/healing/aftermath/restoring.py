"""After a crash: the models that lay in memory come back, one at a time, unless something speaks against it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.errors import ArasulError, EngineDown, EngineSilent, ModelNotFound
from arasul_supervisor.healing.aftermath.load_progress import LOOK_EVERY_S, STALL_S, carry_load
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.supervision.snapshot import State, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedThen
    from arasul_supervisor.healing.aftermath.restore_source import Source
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.supervision.snapshot import Snapshot

# Loads are serial in Ollama (facts/ollama.md §4.1): who asks for a model at once is not kept waiting by ours.
HEAD_START_S: Final = 1.0
# A load that the engine's death has cut twice is not begun again.
MOST_CUT_LOADS: Final = 2
# For the owner of the engine to see what our connection has told already.
DEATH_SEEN_S: Final = 2.0

ENDED_AGAIN: Final = "Ollama ended again before its turn"
NOT_UP: Final = "Ollama was not started again"
LOW_MEMORY: Final = "memory is low"
NOT_INSTALLED: Final = "it is not installed any more"
LOADED_ALREADY: Final = "it is loaded already"


class EngineOwner(Protocol):
    """What is needed of `Engine`."""

    @property
    def snapshot(self) -> Snapshot:
        """The engine as it is now."""

    async def wait_until(self, predicate: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot for which `predicate` holds."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What became of each model, by name; why, as a clause. `died_generation`: the crash that it was done for."""

    died_generation: int
    restored: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """All of it, for an incident."""
        parts = [f"Loaded again: {', '.join(self.restored) or 'nothing'}."]
        parts += [
            f"Not {name}: {why.rstrip('.')}." for name, why in (*self.skipped.items(), *self.failed.items())
        ]
        return " ".join(parts)


@dataclass(slots=True)
class _Round:
    """What one crash gives to do. `generation`: of the engine that loads; None until it is up."""

    died_generation: int
    left: list[LoadedThen]
    generation: int | None = None
    restored: list[LoadedThen] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def skip_all(self, why: str) -> None:
        self.skipped.update({model.name: why for model in self.left})
        self.left.clear()


class Restoring:
    """The one who loads after a crash. Whoever sees the crash calls `begin`, and for no other end of the engine."""

    def __init__(
        self,
        engine: EngineOwner,
        source: Source,
        *,
        reason_against: Callable[[str], str | None],
        is_memory_low: Callable[[], bool],
        told: Callable[[RestoreReport], None],
        clock: Clock,
        log: EventLog,
        head_start_s: float = HEAD_START_S,
        stall_s: float = STALL_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Do nothing yet.

        :param reason_against: why that model must not be loaded, as a sentence, where it is quarantined
        :param told: takes what came of it, once it is over or the engine has ended over it
        """
        self._engine, self._source = engine, source
        self._reason_against, self._is_memory_low, self._told = reason_against, is_memory_low, told
        self._clock, self._log = clock, log
        self._head_start_s, self._stall_s, self._look_every_s = head_start_s, stall_s, look_every_s
        self._round = _Round(0, [])
        self._cut_loads: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._own_load: str | None = None
        self._is_closed = False

    @property
    def own_load(self) -> str | None:
        """The model that it is loading now."""
        return self._own_load

    @property
    def is_running(self) -> bool:
        """True from `begin` until all is done."""
        return self._task is not None and not self._task.done()

    def begin(self, models: Sequence[LoadedThen], *, died_generation: int) -> None:
        """Have these models loaded, the first one first, as soon as a later engine than that is up; returns at once.

        What an earlier crash gave to do, and this one cut short, is done after them.
        """
        earlier = self._round
        is_cut = (earlier.left or self.is_running) and earlier.generation in (None, died_generation)
        cut = [*earlier.restored, *earlier.left] if is_cut else []
        if not cut:
            self._cut_loads.clear()
        names = {model.name for model in models}
        todo = _Round(died_generation, [*models, *(model for model in cut if model.name not in names)])
        before, self._round, self._task = self._task, todo, None
        if todo.left or (before is not None and not before.done()):
            self._task = asyncio.get_running_loop().create_task(self._restore(todo, before), name="restoring")
            self._task.add_done_callback(lambda task: self._note_end(task, todo))

    def cancel(self, why: str) -> None:
        """End the load under way, and load nothing more for this crash.

        :param why: a clause, such as `its load did not move`
        """
        self._round.skip_all(why)
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """The daemon ends."""
        self._is_closed = True
        if self._task is not None:
            await end_task(self._task)

    def _note_end(self, task: asyncio.Task[None], todo: _Round) -> None:
        self._own_load = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("restoring_failed", error=repr(error))
        if not self._is_closed:
            left = {model.name: ENDED_AGAIN for model in todo.left}
            restored = tuple(model.name for model in todo.restored)
            self._told(RestoreReport(todo.died_generation, restored, {**todo.skipped, **left}, todo.failed))

    async def _restore(self, todo: _Round, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await end_task(before)
        seen = await self._engine.wait_until(
            lambda seen: _stays_down(seen) or (seen.generation > todo.died_generation and seen.is_answering)
        )
        if _stays_down(seen):
            todo.skip_all(NOT_UP)
            return
        todo.generation = seen.generation
        await asyncio.sleep(self._head_start_s)
        while todo.left and not _is_over(
            await self._engine.wait_until(lambda seen: _is_clear(seen, todo)), todo
        ):
            if self._is_memory_low():
                todo.skip_all(LOW_MEMORY)
                return
            await self._restore_one(todo, todo.left[0])

    async def _restore_one(self, todo: _Round, model: LoadedThen) -> None:
        """Load the first of `left`, and take it from there, unless the engine ends or falls silent over it."""
        try:
            why_not = await self._why_not(model)
            if why_not is None:
                await self._load(todo, model)
                return
            _skip(todo, model, why_not)
        except ModelNotFound:
            _skip(todo, model, NOT_INSTALLED)
        except ArasulError as error:
            if isinstance(error, (EngineDown, EngineSilent)) and await self._is_ending(todo):
                self._cut_loads[model.name] += 1
                return
            todo.left.remove(model)
            todo.failed[model.name] = error.sentence
            self._log.warning("model_not_restored", model=model.name, reason=error.sentence)

    async def _why_not(self, model: LoadedThen) -> str | None:
        against = self._reason_against(model.name)
        if against is not None:
            return against
        if self._cut_loads[model.name] >= MOST_CUT_LOADS:
            return f"Ollama has ended or fallen silent {MOST_CUT_LOADS} times while it was loaded again"
        if not await self._source.is_installed(model.name):
            return NOT_INSTALLED
        return None

    async def _load(self, todo: _Round, model: LoadedThen) -> None:
        there = await self._source.loaded()
        gone = [one.name for one in todo.restored if not any(_is_same(other, one) for other in there)]
        if gone:
            todo.skip_all(f"there may be no room: {', '.join(gone)} was unloaded again meanwhile")
            return
        same = next((one for one in there if _is_same(one, model)), None)
        if same is not None and not model.is_pinned:
            _skip(todo, model, LOADED_ALREADY)
            return
        # what somebody has loaded meanwhile is pinned as it is, not loaded anew
        wanted = model if same is None else replace(model, context_length=same.context_length)
        began_mono, self._own_load = self._clock.mono(), model.name
        try:
            await carry_load(
                self._source.load(wanted),
                model=model.name,
                mark=self._source.mark,
                clock=self._clock,
                stall_s=self._stall_s,
                look_every_s=self._look_every_s,
            )
        finally:
            self._own_load = None
        todo.left.remove(model)
        todo.restored.append(model)
        load_s = round(self._clock.mono() - began_mono, 3)
        self._log.info("model_restored", model=model.name, is_pinned=model.is_pinned, load_s=load_s)

    async def _is_ending(self, todo: _Round) -> bool:
        """True when it is the engine that fails: a connection breaks before its owner has seen the death."""
        try:
            await within(
                self._engine.wait_until(lambda seen: seen.is_silent or _is_over(seen, todo)), DEATH_SEEN_S
            )
        except asyncio.TimeoutError:
            return False
        return True


def _skip(todo: _Round, model: LoadedThen, why: str) -> None:
    todo.left.remove(model)
    todo.skipped[model.name] = why


def _stays_down(seen: Snapshot) -> bool:
    return seen.wanted is Wanted.DOWN or seen.state is State.FATAL


def _is_over(seen: Snapshot, todo: _Round) -> bool:
    """True once the engine that was to load is gone, or going."""
    return seen.generation != todo.generation or seen.state is not State.RUNNING


def _is_clear(seen: Snapshot, todo: _Round) -> bool:
    """True once a silent engine answers again, or has been ended."""
    return seen.is_answering or _is_over(seen, todo)


def _is_same(one: LoadedModel, other: LoadedThen) -> bool:
    return same_model(one.name, other.name) or (bool(other.digest) and one.digest == other.digest)
