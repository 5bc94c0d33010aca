"""What Ollama believes is loaded, with the weights of each model: `/api/ps` beside the store. Asked seldom.

Each question is a line in the engine's log, so it is put only when something has changed, or is suspected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.healing.looking.witnesses import ModelsLook, Witness, told
from arasul_supervisor.model_store.listing import read_weights_of, walk_manifests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.residency import Residency

ASK_S: Final = 2.0
STORE_S: Final = 2.0
CLOSE_WATCH_S: Final = 5.0
"""How often it is asked while something about the list is odd."""
AT_LEAST_EVERY_S: Final = 30.0
MISFIT_S: Final = 30.0
"""For how long after a runner came or went the list may not fit yet: what fits no better then stays as it is."""
STORE_KEPT_S: Final = 300.0

_FRACTION: Final = re.compile(r"\.\d+")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of each installed model by its name, `sha256:…`; not `is_whole` where some could not be read."""

    of_model: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_whole: bool = False


class LoadedModels:
    """Keeps the last answer, and knows when the next question is due."""

    def __init__(self, residency: Residency, store: StoreReader, clock: Clock) -> None:
        """Ask nothing yet."""
        self._residency, self._store, self._clock = residency, store, clock
        self._last: Witness[ModelsLook] = Witness()
        self._asked_mono = 0.0
        self._of_runners: frozenset[object] = frozenset()
        self._changed_mono = 0.0
        self._weights = Weights()
        self._weights_mono = -STORE_KEPT_S

    def forget(self) -> None:
        """Another engine: what the last one had loaded is gone with it."""
        self._last, self._asked_mono, self._of_runners = Witness(), 0.0, frozenset()

    async def look(self, history: History, period_s: float) -> Witness[ModelsLook]:
        """The last answer, or a new one where that is due; a witness that does not answer keeps what it said."""
        runners = frozenset((one.look.identity, one.is_loading) for one in history.runners.values())
        age_s = self._clock.mono() - self._asked_mono
        is_changed = runners != self._of_runners and age_s >= period_s
        if runners != self._of_runners:
            self._changed_mono = self._clock.mono()
        is_fitting = self._clock.mono() - self._changed_mono < MISFIT_S
        if not is_changed and age_s < _every_s(history, self._last.value, is_fitting=is_fitting):
            return self._last
        self._asked_mono, self._of_runners = self._clock.mono(), runners
        try:
            loaded = await self._residency.loaded(timeout_s=ASK_S)
        except ArasulError as error:
            self._last = Witness(self._last.value, self._last.taken_mono, error.sentence)
            return self._last
        taken_mono, taken_at = self._clock.mono(), self._clock.wall()
        names = [model.name for model in loaded]
        weights, is_whole = await self._weights_of(names)
        self._last = told(
            ModelsLook(
                loaded=loaded,
                expires_in_s={model.name: _seconds_until(model.expires_at, taken_at) for model in loaded},
                blobs={name: weights[name] for name in names if name in weights},
                missing=frozenset(name for name in names if name not in weights and is_whole),
                installed_blobs=frozenset().union(*weights.values()),
            ),
            taken_mono,
        )
        return self._last

    async def _weights_of(self, names: list[str]) -> tuple[Mapping[str, frozenset[str]], bool]:
        """What is installed, and whether that is all: what was known before a pull says nothing of what it brought."""
        is_old = self._clock.mono() - self._weights_mono >= STORE_KEPT_S
        if names and (is_old or any(name not in self._weights.of_model for name in names)):
            try:
                self._weights = await self._store.call(read_weights, timeout_s=STORE_S)
                self._weights_mono = self._clock.mono()
            except ArasulError:
                return self._weights.of_model, False
        return self._weights.of_model, self._weights.is_whole and bool(self._weights.of_model)


def read_weights(store: Path) -> Weights:
    """The weights of each model; one whose manifest is broken has none. Blocks."""
    walk = walk_manifests(store)
    found = {file.name: read_weights_of(file.path) for file in walk.files}
    is_whole = walk.is_whole and None not in found.values()
    return Weights({name: weights or frozenset() for name, weights in found.items()}, is_whole)


def _every_s(history: History, models: ModelsLook | None, *, is_fitting: bool) -> float:
    """How often the list is worth a line in the log: often while a runner does not fit it, at last never without one.

    A model whose runner is gone may be listed for ever, and so may one that was deleted while it was loaded.
    """
    runners = history.runners.values()
    seldom_s = AT_LEAST_EVERY_S if runners else float("inf")
    if models is None:
        return seldom_s
    blobs = {one.look.blob for one in runners}
    is_past = any(
        left_s < 0 and not blobs.isdisjoint(models.blobs.get(name, ()))
        for name, left_s in _left_s(history, models).items()
    )
    is_deleted = bool(models.missing) and not blobs <= {None, *models.installed_blobs}
    is_misfit = is_fitting and len(models.loaded) != len(runners)
    if is_past or is_deleted or is_misfit or any(one.unlisted_s > 0 for one in runners):
        return CLOSE_WATCH_S
    return seldom_s


def _left_s(history: History, models: ModelsLook) -> Mapping[str, float]:
    look = history.look
    age_s = (look.models.age_s(look.now_mono) or 0.0) if look else 0.0
    return {name: left_s - age_s for name, left_s in models.expires_in_s.items()}


def _seconds_until(expires_at: str, now_wall: float) -> float:
    """`2026-11-23T14:12:40.931971924Z`, or with an offset. Python reads no more than six digits of a second.

    A date that cannot be read is never past.
    """
    text = _FRACTION.sub(lambda found: f"{found[0]:0<7}"[:7], expires_at).replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(text).timestamp() - now_wall
    except ValueError:
        return float("inf")
