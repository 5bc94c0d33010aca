"""Runners that ended by themselves: at rest, which nobody tells, or in a request, which the log tells. Pure.

Nothing is done about one: Ollama starts another at the next request (facts/ollama.md §7 rows 4 and 7).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.history.history import Departed, History
    from arasul_supervisor.healing.looking.witnesses import Look

TOLD_S: Final = 10.0
KEEP_DYING: Final = 3
WITHIN_S: Final = 600.0
_SETTLED_S: Final = 8.0
"""Ollama lists a model for some time after its runner was ended for an eviction or another context (more than 1 s was
seen on a busy box); it waits up to 5 s for the memory of a GPU."""


@dataclass(frozen=True, slots=True)
class Death:
    """One runner that ended: of which weights and model, when it was seen, and what showed it."""

    blob: str
    model: str
    seen_mono: float
    evidence: str


@dataclass(frozen=True, slots=True)
class DeathWatch:
    """The deaths of the last ten minutes. `counts`: how many the log has told of so far, by the weights.

    `total`: with those of no model that the log names; `nameless`: of these, how many no runner was found for yet.
    `at_rest`: weights of runners that were seen to have died at rest: the next request has the log tell of it too.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    at_rest: frozenset[str] = frozenset()
    total: int = 0
    nameless: int = 0
    deaths: tuple[Death, ...] = ()
    known: frozenset[object] = frozenset()
    generation: int = 0

    def after(self, history: History, *, ended_by_us: frozenset[object]) -> DeathWatch:
        """With one more look.

        :param ended_by_us: the identities of the runners that we have ended
        """
        look = history.look
        if look is None or look.engine is None:
            return self
        if history.generation != self.generation:
            return DeathWatch(deaths=self.deaths, generation=history.generation)._after(
                history, look, ended_by_us
            )
        return self._after(history, look, ended_by_us)

    def _after(self, history: History, look: Look, ended_by_us: frozenset[object]) -> DeathWatch:
        told = [
            Death(
                blob,
                _name(history, blob),
                look.now_mono,
                f"Ollama's log told that a runner of {_name(history, blob)} ended by itself.",
            )
            for blob, count in look.log.deaths.items()
            if count - (blob in self.at_rest) > self.counts.get(blob, 0)
        ]
        total, last_mono = look.log.outcomes.get("runner_died", (0, 0.0))
        nameless = self._nameless(look, total) if look.now_mono - last_mono <= TOLD_S else 0
        replaced = (gone for gone in history.departed if self._is_replaced(gone, history, ended_by_us))
        busy = list(replaced)[:nameless]
        told += [_death(gone, history, look.now_mono, _in_request(gone, history)) for gone in busy]
        found = [gone for gone in history.departed if self._is_death(gone, history, ended_by_us)]
        kept = [death for death in self.deaths if look.now_mono - death.seen_mono <= WITHIN_S]
        recent = {death.blob for death in (*kept, *told) if look.now_mono - death.seen_mono <= TOLD_S}
        silent = [
            _death(gone, history, look.now_mono, _at_rest(gone, history))
            for gone in found
            if gone.runner.look.blob not in recent
        ]
        heard = {blob for blob, count in look.log.deaths.items() if count > self.counts.get(blob, 0)}
        known = self.known & {gone.runner.look.identity for gone in history.departed}
        return replace(
            self,
            counts=dict(look.log.deaths),
            at_rest=self.at_rest - heard | {death.blob for death in silent},
            deaths=(*kept, *told, *silent),
            known=known | {gone.runner.look.identity for gone in (*found, *busy)},
            total=total,
            nameless=nameless - len(busy),
        )

    def verdicts(self, history: History) -> tuple[Verdict, ...]:
        """Those that are news; and models whose runners keep dying."""
        look = history.look
        if look is None:
            return ()
        news = [death for death in self.deaths if look.now_mono - death.seen_mono <= TOLD_S]
        often = Counter((death.blob, death.model) for death in self.deaths)
        return (
            *(
                Verdict(
                    Kind.RUNNER_DIED,
                    death.evidence,
                    since_mono=death.seen_mono,
                    model=death.model,
                )
                for death in news
            ),
            *(
                _keeps_dying(name, count, history)
                for (_, name), count in often.items()
                if count >= KEEP_DYING
            ),
        )

    def _nameless(self, look: Look, total: int) -> int:
        """How many deaths the log has told of, in a line without a model, that no runner was found for yet."""
        named = sum(look.log.deaths.values()) - sum(self.counts.values())
        return self.nameless + max(0, total - self.total - named)

    def _is_unexplained(self, gone: Departed, ended_by_us: frozenset[object]) -> bool:
        """Whether it ended after its load, nobody here ended it, and no death was told of it yet."""
        identity = gone.runner.look.identity
        return not gone.runner.is_loading and identity not in ended_by_us and identity not in self.known

    def _is_replaced(self, gone: Departed, history: History, ended_by_us: frozenset[object]) -> bool:
        """Whether another runner holds its weights already, as after a death that the log tells of without a name."""
        identity, blob = gone.runner.look.identity, gone.runner.look.blob
        return self._is_unexplained(gone, ended_by_us) and any(
            one.look.blob == blob and one.look.identity[1] > identity[1] for one in history.runners.values()
        )

    def _is_death(self, gone: Departed, history: History, ended_by_us: frozenset[object]) -> bool:
        """Whether Ollama still lists, in an answer from afterwards, what no runner holds any more."""
        blob, models = gone.runner.look.blob, history.models
        asked_mono = history.look.models.taken_mono if history.look else None
        if models is None or asked_mono is None or asked_mono <= gone.missed_mono + _SETTLED_S:
            return False
        if not self._is_unexplained(gone, ended_by_us):
            return False
        if any(
            one.runner.look.blob == blob and one.missed_mono > gone.missed_mono for one in history.departed
        ):
            return False  # another one had its model since: the list may speak of that
        is_listed = any(blob in blobs for blobs in models.blobs.values())
        return is_listed and not any(one.look.blob == blob for one in history.runners.values())


def _death(gone: Departed, history: History, now_mono: float, evidence: str) -> Death:
    blob = gone.runner.look.blob or ""
    return Death(blob, _name(history, blob), now_mono, evidence)


def _keeps_dying(name: str, count: int, history: History) -> Verdict:
    return Verdict(
        Kind.RUNNERS_KEEP_DYING,
        f"The runner of {name} has ended by itself {count} times within {WITHIN_S / 60:.0f} min.",
        since_mono=history.look.now_mono if history.look else 0.0,
        model=name,
    )


def _in_request(gone: Departed, history: History) -> str:
    pid, name = gone.runner.look.process.pid, _name(history, gone.runner.look.blob or "")
    return (
        f"The runner {pid} of {name} is gone, Ollama's log tells of a runner that ended by itself, and another one "
        "holds its model."
    )


def _at_rest(gone: Departed, history: History) -> str:
    pid = gone.runner.look.process.pid
    return (
        f"The runner {pid} is gone, and Ollama lists {_name(history, gone.runner.look.blob or '')} as loaded all the "
        "same: it ended at rest, and the next request starts another."
    )


def _name(history: History, blob: str) -> str:
    return history.name_of(blob) or f"a model ({blob[:19]}…)"
