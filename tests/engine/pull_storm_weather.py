"""The faults of a storm of pulls: so many of each kind for so many pulls, in an order that a seed repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from tests.engine.registry_faults import KINDS, Fault

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CALM_S: Final = 2.5  # the second attempt follows within this
Blow = Literal["fault", "outage", "kill engine", "kill daemon", "watcher leaves"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens, and how many seconds pass until the next.

    `lasts_s`: of an outage of the registry, or until a watcher leaves.
    """

    blow: Blow
    after_s: float
    fault: Fault | None = None
    lasts_s: float = 0.0

    @property
    def is_first_contact(self) -> bool:
        """True when it meets pulls before their first byte: three of these in a row and a wrong host is told."""
        return self.blow == "outage" or (self.fault is not None and self.fault.kind in ("manifest", "HEAD"))


def weather(n_pulls: int, rng: random.Random, *, every_s: float) -> tuple[list[Event], list[Event]]:
    """The events for so many pulls: those of the first contact, further apart, and the others, one in `every_s`."""
    makers = [maker for maker, per_20 in _PER_20.items() for _ in range(max(1, per_20 * n_pulls // 20))]
    rng.shuffle(makers)
    events = [maker(rng, rng.uniform(0.3, 1.7) * every_s) for maker in makers]
    contacts = [
        replace(event, after_s=event.lasts_s + CALM_S + event.after_s)
        for event in events
        if event.is_first_contact
    ]
    return contacts, [event for event in events if not event.is_first_contact]


def _cut(how: Literal["drop", "reset", "stall"]) -> Callable[[random.Random, float], Event]:
    def make(rng: random.Random, after_s: float) -> Event:
        return Event("fault", after_s, Fault("range", how, after_bytes=rng.randrange(1_500_000)))

    return make


def _slow(rng: random.Random, after_s: float) -> Event:
    return Event("fault", after_s, Fault("range", "slow", bytes_per_s=rng.uniform(150_000, 600_000)))


def _refusal(status: int, retry_after: str | None) -> Callable[[random.Random, float], Event]:
    def make(rng: random.Random, after_s: float) -> Event:
        kind = rng.choice(KINDS)
        return Event("fault", after_s, Fault(kind, "refuse", status=status, retry_after=retry_after))

    return make


def _manifest_500(rng: random.Random, after_s: float) -> Event:
    return Event("fault", after_s, Fault("manifest", "refuse", status=500, spares_the_daemon=True))


def _broken_off(rng: random.Random, after_s: float) -> Event:
    return Event("fault", after_s, Fault(rng.choice(KINDS[:3]), "drop"))


def _outage(rng: random.Random, after_s: float) -> Event:
    return Event("outage", after_s, lasts_s=rng.uniform(1.0, 2.5))


def _kill_engine(rng: random.Random, after_s: float) -> Event:
    return Event("kill engine", after_s)


def _kill_daemon(rng: random.Random, after_s: float) -> Event:
    return Event("kill daemon", after_s)


def _watcher(rng: random.Random, after_s: float) -> Event:
    return Event("watcher leaves", after_s, lasts_s=rng.uniform(0.05, 1.0))


_PER_20: Final[dict[Callable[[random.Random, float], Event], int]] = {
    _cut("drop"): 5,
    _cut("reset"): 3,
    _cut("stall"): 3,
    _slow: 2,
    _refusal(503, None): 3,
    _refusal(503, "1"): 2,
    _refusal(429, "1"): 2,
    _manifest_500: 2,
    _broken_off: 2,
    _outage: 1,
    _kill_engine: 2,
    _kill_daemon: 2,
    _watcher: 4,
}
