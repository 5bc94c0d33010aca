"""For how long a process has done nothing at all: neither computed nor read, and not waited for a processor. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.looking.witnesses import TRACED

if TYPE_CHECKING:
    from arasul_supervisor.supervision.process_looks import ProcessLook

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
FREE_TICKS: Final = 2
FREE_SHARE: Final = 0.002
"""Our own questions cost a runner 2 ticks for 50 of them, an idle one uses none in 10 s (measured on 0.34.4)."""
FREE_BYTES: Final = 4096
"""At once, and in each second. A runner ≤ 0.29 is a Go program, whose /proc/PID/io counts what passes its sockets: 245
bytes for a question (measured), of which Ollama itself puts four in a second while it waits for a load."""


@dataclass(frozen=True, slots=True)
class Stillness:
    """`for_s`: watched seconds in which nothing moved; `from_look`: how its counters stood at their beginning."""

    from_look: ProcessLook | None
    for_s: float = 0.0

    def after(self, look: ProcessLook | None, step_s: float) -> Stillness:
        """With one more look; one that failed shows nothing. A process that a debugger holds is not judged."""
        if look is None:
            return self
        if self.from_look is None or self.from_look.identity != look.identity or look.state == TRACED:
            return Stillness(look)
        for_s = self.for_s + step_s
        free = FREE_TICKS + FREE_SHARE * TICKS_PER_S * for_s
        has_moved = (
            look.is_runnable
            or look.cpu_ticks - self.from_look.cpu_ticks > free
            or look.major_faults != self.from_look.major_faults
            or _moved_bytes(self.from_look, look) > FREE_BYTES * (1 + for_s)
        )
        return Stillness(look) if has_moved else Stillness(self.from_look, for_s)


def _moved_bytes(before: ProcessLook, look: ProcessLook) -> int:
    """What it read and wrote between the two; 0 where that is not ours to see."""
    if before.moved_bytes is None or look.moved_bytes is None:
        return 0
    return look.moved_bytes - before.moved_bytes
