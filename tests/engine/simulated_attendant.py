"""The pure half of healing over a simulated box: what the healer does, without waiting for anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.diagnosis import diagnose
from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.treatment.casebook import CaseBook, Closed, Opened, Ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.healing.diagnosis.verdicts import Cure
    from arasul_supervisor.healing.treatment.casebook import Event
    from tests.engine.simulated_box import Box

LOOK_EVERY_S: Final = 2.0


@dataclass(slots=True)
class Attendant:
    """Looks, understands, and does what the case book says. `events`: all that it said, with the instant."""

    box: Box
    limits: Limits = field(default_factory=Limits)
    forbidden: Mapping[Cure, str] = field(default_factory=dict)
    is_acting: bool = True
    history: History = field(default_factory=History)
    book: CaseBook = field(init=False)
    events: list[tuple[float, Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = CaseBook(restart_s=137.0, is_acting=self.is_acting)

    def turn(self) -> None:
        """One look, and all that follows."""
        self.history = self.history.after(self.box.look(self.history))
        turn = self.book.after(diagnose(self.history, self.limits), self.history, forbidden=self.forbidden)
        self.book = turn.book
        for event in turn.events:
            self.events.append((self.box.now_mono, event))
            if isinstance(event, Ordered):
                self.box.apply(event)

    def opened(self) -> list[tuple[float, Opened]]:
        """The illnesses that it found, with the instant."""
        return [(at, event) for at, event in self.events if isinstance(event, Opened)]

    def closed(self) -> list[tuple[float, Closed]]:
        """What became of them."""
        return [(at, event) for at, event in self.events if isinstance(event, Closed)]

    def cures(self) -> list[Cure]:
        """What was ordered, in this order."""
        return [event.cure for _, event in self.events if isinstance(event, Ordered)]


def live(
    attendant: Attendant,
    seconds: float,
    each_step: Callable[[float], object] = lambda _step_s: None,
    *,
    step_s: float = LOOK_EVERY_S,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Let time pass: `each_step` moves the world by its argument, then one look is taken; ends early when `until`."""
    end_mono = attendant.box.now_mono + seconds
    while attendant.box.now_mono < end_mono and not until():
        attendant.box.pass_time(step_s)
        each_step(step_s)
        attendant.turn()
