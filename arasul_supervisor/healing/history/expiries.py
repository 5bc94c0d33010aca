"""When Ollama is to unload what it lists, on the clock that its timers go by. Pure.

`expires_at` is a date on the wall, and the timer behind it is not: after a laptop slept, or a clock was set, a model
is listed past its time until the rest of its time is over (Go's timers stand still in a suspend, and follow no clock).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.looking.witnesses import Look

ASKED_WITHIN_S: Final = 75.0
"""The list is asked once a minute at least, so that a date that is new for longer was written after the step."""
A_STEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Expiries:
    """By name: the date as Ollama writes it, and when it is due on the monotonic clock, taken when first seen.

    `stepped_s`, `stepped_mono`: by how much the clock on the wall went ahead last, and when.
    """

    due: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    stepped_s: float = 0.0
    stepped_mono: float = float("-inf")

    def after(self, look: Look, clock_step_s: float) -> Expiries:
        """With one more look.

        :param clock_step_s: by how much the clock on the wall went ahead of the monotonic one since the last look
        """
        stepped_s, stepped_mono = self.stepped_s, self.stepped_mono
        if clock_step_s > A_STEP_S:
            stepped_s, stepped_mono = clock_step_s, look.now_mono
        models, taken_mono = look.models.value, look.models.taken_mono
        if models is None or taken_mono is None:
            return Expiries(self.due, stepped_s, stepped_mono)
        spared_s = stepped_s if look.now_mono - stepped_mono <= ASKED_WITHIN_S else 0.0
        due = {}
        for model in models.loaded:
            left_s = models.expires_in_s.get(model.name, float("inf"))
            known = self.due.get(model.name)
            if known is not None and known[0] == model.expires_at:
                due[model.name] = known
            else:
                due_mono = taken_mono + left_s + (spared_s if left_s < 0 else 0.0)
                due[model.name] = (model.expires_at, due_mono)
        return Expiries(due, stepped_s, stepped_mono)

    def is_past(self, name: str, now_mono: float) -> bool:
        """Whether its time is over."""
        return name in self.due and now_mono > self.due[name][1]
