"""Which models lay in memory when a generation of the engine ended, from the looks before its death."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from arasul_supervisor.healing.looking.witnesses import Answering, ModelsLook

if TYPE_CHECKING:
    from arasul_supervisor.healing.looking.witnesses import Look, RunnerLook, Witness
    from arasul_supervisor.ollama.models import LoadedModel

T = TypeVar("T")

# A look that was taken so shortly before the death may have met what died with the engine: Ollama ends its runners
# 3 to 16 ms before itself, and its list is not answered any more (facts/ollama.md §2.2).
DYING_S: Final = 0.25
# Keep-alive −1 shows as a date in 2319 (§3.2).
PINNED_OVER_S: Final = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class LoadedThen:
    """A model as it lay in memory.

    `blobs`: its weights, `sha256:…`; empty where the store did not tell. `is_pinned`: it was to stay for ever.
    `context_length`: tokens, as `/api/ps` had it. `used_mono`: when it was last seen in use.
    """

    name: str
    digest: str
    blobs: frozenset[str] = frozenset()
    is_pinned: bool = False
    context_length: int | None = None
    used_mono: float = 0.0


@dataclass(frozen=True, slots=True)
class AtDeath:
    """What an engine had in memory. `loaded`: the most recently used first.

    `loading`: weights whose runner lived, and that Ollama did not list as loaded yet. `active`: weights whose runner
    worked on something.
    """

    loaded: tuple[LoadedThen, ...] = ()
    loading: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Sights(Generic[T]):
    """The last two answers of a witness, the newest last."""

    kept: deque[tuple[float, T]] = field(default_factory=lambda: deque(maxlen=2))

    def is_new(self, taken_mono: float) -> bool:
        """False for an answer that is kept already."""
        return not self.kept or taken_mono > self.kept[-1][0]

    def add(self, value: T, taken_mono: float) -> None:
        """Keep an answer."""
        self.kept.append((taken_mono, value))

    def before(self, mono: float) -> T | None:
        """The newest answer that was given before then."""
        return next((value for taken_mono, value in reversed(self.kept) if taken_mono < mono), None)

    @property
    def latest(self) -> T | None:
        """The newest answer of all."""
        return self.kept[-1][1] if self.kept else None


@dataclass(frozen=True, slots=True)
class _Runners:
    """The runners below the engine at one look, and the weights of those that worked."""

    living: tuple[RunnerLook, ...] = ()
    active: frozenset[str] = frozenset()


class LoadedBook:
    """Keeps of each look what is asked for at a death. Pure: it is told everything."""

    def __init__(self) -> None:
        """Begin without a generation."""
        self._begin(0)

    def see(self, look: Look) -> None:
        """One look; those without an engine change nothing."""
        if look.engine is None:
            return
        if look.engine.generation != self._generation:
            self._begin(look.engine.generation)
        self._see_runners(look.runners, is_llama_server=look.engine.is_llama_server)
        self._see_models(look.models, look.now_mono)

    def at_death(self, generation: int, *, died_mono: float) -> AtDeath:
        """What that generation had in memory when it ended; nothing when no look saw it."""
        if generation != self._generation:
            return AtDeath()
        runners = self._runners.before(died_mono - DYING_S)
        models = self._models.before(died_mono - DYING_S) or ModelsLook(())
        loaded = [model for model in models.loaded if runners is None or _is_alive(model, models, runners)]
        return AtDeath(
            loaded=tuple(sorted((self._then(model, models) for model in loaded), key=_newest_first)),
            loading=_loading(models, runners) if runners else frozenset(),
            active=runners.active if runners else frozenset(),
        )

    def _begin(self, generation: int) -> None:
        self._generation = generation
        self._models: _Sights[ModelsLook] = _Sights()
        self._runners: _Sights[_Runners] = _Sights()
        self._used: dict[str, tuple[str, float]] = {}

    def _see_runners(self, witness: Witness[tuple[RunnerLook, ...]], *, is_llama_server: bool) -> None:
        if (
            witness.value is None
            or witness.taken_mono is None
            or not self._runners.is_new(witness.taken_mono)
        ):
            return
        living = tuple(runner for runner in witness.value if not runner.is_orphan)
        before = self._runners.latest or _Runners()
        ticks = {runner.identity: runner.process.cpu_ticks for runner in before.living}
        active = frozenset(
            runner.blob
            for runner in living
            if runner.blob
            and _is_working(runner, ticks.get(runner.identity), is_llama_server=is_llama_server)
        )
        self._runners.add(_Runners(living, active), witness.taken_mono)

    def _see_models(self, witness: Witness[ModelsLook], now_mono: float) -> None:
        """Ollama moves a model's expiry when a request of it ends; while one is open its runner works."""
        if (
            witness.value is not None
            and witness.taken_mono is not None
            and self._models.is_new(witness.taken_mono)
        ):
            self._models.add(witness.value, witness.taken_mono)
        models, active = self._models.latest, (self._runners.latest or _Runners()).active
        if models is None:
            return
        before, self._used = self._used, {}
        for model in models.loaded:
            expiry, used_mono = before.get(model.name, ("", now_mono))
            is_used = expiry != model.expires_at or bool(active & models.blobs.get(model.name, frozenset()))
            self._used[model.name] = (model.expires_at, now_mono if is_used else used_mono)

    def _then(self, model: LoadedModel, models: ModelsLook) -> LoadedThen:
        return LoadedThen(
            name=model.name,
            digest=model.digest,
            blobs=models.blobs.get(model.name, frozenset()),
            is_pinned=models.expires_in_s.get(model.name, 0.0) > PINNED_OVER_S,
            context_length=model.context_length,
            used_mono=self._used.get(model.name, ("", 0.0))[1],
        )


def _newest_first(model: LoadedThen) -> float:
    """A sort keeps Ollama's own order, the latest expiry first, where both were used at the same look."""
    return -model.used_mono


def _is_working(runner: RunnerLook, ticks_before: int | None, *, is_llama_server: bool) -> bool:
    """An idle runner uses no tick at all; ≤ 0.29 leaves connections open after an answer, ≥ 0.30 none."""
    if runner.slots is not None and runner.slots.is_busy:
        return True
    if is_llama_server and runner.connections:
        return True
    return ticks_before is not None and runner.process.cpu_ticks > ticks_before


def _is_alive(model: LoadedModel, models: ModelsLook, runners: _Runners) -> bool:
    """True unless no living runner can be its own: a runner of a split model names no blob."""
    blobs = models.blobs.get(model.name, frozenset())
    return any(not blobs or runner.blob is None or runner.blob in blobs for runner in runners.living)


def _loading(models: ModelsLook, runners: _Runners) -> frozenset[str]:
    """Weights of runners that Ollama does not list, and that do not answer as if they were ready.

    Where it lists a model of unknown weights, only a runner that says so itself is loading.
    """
    listed = [models.blobs.get(model.name, frozenset()) for model in models.loaded]
    known: frozenset[str] = frozenset().union(*listed)
    return frozenset(
        runner.blob
        for runner in runners.living
        if runner.blob
        and runner.blob not in known
        and runner.answering
        not in (Answering.READY, Answering.UNASKED)  # one that loads is asked at each look
        and (all(listed) or runner.answering is Answering.LOADING)
    )
