"""One model runner over time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from arasul_supervisor.healing.history.stillness import TICKS_PER_S, Stillness
from arasul_supervisor.healing.looking.witnesses import STOPPED, Answering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.looking.witnesses import RunnerLook, SlotsLook


@dataclass(frozen=True, slots=True)
class RunnerHistory:
    """What is known of one runner. `_s` are watched seconds for which it has been so without a break.

    `served_mono`: when it was first seen ready; None while it loads. `slots`: what it last said of its work.
    `unanswered`: our questions in a row without an answer. `unmoved_s`: it has been busy by its own word while its
    counters stood, from `unmoved_from_ticks` of processor time on. `idle_s`: nobody has been connected to it.
    `connections_s`: for how long each peer has been connected. `read_s`: nothing has waited in these to be read.
    `unlisted_s`: it serves, and Ollama does not list it.
    """

    look: RunnerLook
    first_mono: float
    still: Stillness
    served_mono: float | None = None
    slots: SlotsLook | None = None
    stopped_s: float = 0.0
    unanswered: int = 0
    unanswered_s: float = 0.0
    unmoved_s: float = 0.0
    unmoved_from_ticks: int = 0
    idle_s: float = 0.0
    unlisted_s: float = 0.0
    read_s: float = 0.0
    connections_s: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_loading(self) -> bool:
        """Whether it has never been ready."""
        return self.served_mono is None

    @property
    def is_busy(self) -> bool | None:
        """Whether a request is open; None where nobody tells."""
        if self.look.connections is not None:
            return bool(self.look.connections)
        return None if self.slots is None else self.slots.is_busy

    @property
    def is_working(self) -> bool:
        """Whether it loads, or may be answering."""
        return self.is_loading or self.is_busy is not False

    @property
    def is_silent(self) -> bool:
        """Whether it left the last question without an answer."""
        return self.unanswered > 0

    @property
    def unmoved_cpu_s(self) -> float:
        """Processor seconds that it used while its counters stood."""
        return (self.look.process.cpu_ticks - self.unmoved_from_ticks) / TICKS_PER_S

    @property
    def oldest_connection_s(self) -> float:
        """For how long the oldest of its connections has lasted."""
        return max(self.connections_s.values(), default=0.0)


def first_look(look: RunnerLook, now_mono: float) -> RunnerHistory:
    """A runner that was not there before."""
    return RunnerHistory(
        look,
        first_mono=now_mono,
        still=Stillness(look.process),
        # one that cannot be asked is not taken for loading
        served_mono=now_mono if look.answering is Answering.READY or look.port is None else None,
        slots=look.slots,
        unanswered=int(look.answering is Answering.SILENT),
        unmoved_from_ticks=look.process.cpu_ticks,
        connections_s=dict.fromkeys(look.connections or (), 0.0),
    )


def after_look(before: RunnerHistory, look: RunnerLook, *, now_mono: float, step_s: float) -> RunnerHistory:
    """The same runner one look later. What a look could not tell stays as it was."""
    is_stopped = look.process.state == STOPPED
    seen = replace(
        before,
        look=look,
        still=before.still.after(look.process, step_s),
        slots=look.slots or before.slots,
        stopped_s=before.stopped_s + step_s if is_stopped and before.look.process.state == STOPPED else 0.0,
    )
    return _with_progress(_with_connections(_with_answer(seen, now_mono, step_s), step_s), before, step_s)


def _with_answer(seen: RunnerHistory, now_mono: float, step_s: float) -> RunnerHistory:
    answering = seen.look.answering
    if answering is Answering.SILENT:
        # what went by before the first question without an answer counts for nothing
        silent_s = seen.unanswered_s + step_s if seen.unanswered else 0.0
        return replace(seen, unanswered=seen.unanswered + 1, unanswered_s=silent_s)
    if answering is Answering.UNASKED:
        return replace(seen, unanswered_s=seen.unanswered_s + step_s) if seen.unanswered else seen
    served_mono = now_mono if seen.served_mono is None and answering is Answering.READY else seen.served_mono
    return replace(seen, served_mono=served_mono, unanswered=0, unanswered_s=0.0)


def _with_connections(seen: RunnerHistory, step_s: float) -> RunnerHistory:
    peers = seen.look.connections
    if peers is None:
        return seen
    ages = {peer: seen.connections_s[peer] + step_s if peer in seen.connections_s else 0.0 for peer in peers}
    return replace(
        seen,
        connections_s=ages,
        idle_s=0.0 if peers else seen.idle_s + step_s,
        read_s=0.0 if seen.look.unread_bytes else seen.read_s + step_s,
    )


def _with_progress(seen: RunnerHistory, before: RunnerHistory, step_s: float) -> RunnerHistory:
    if seen.look.connections is not None and not seen.look.connections:
        # its work is over, or its client left: what the slots said then is not of the next request
        return replace(seen, slots=None, unmoved_s=0.0)
    if seen.look.slots is None:
        return seen
    if seen.look.slots.is_busy and before.slots == seen.look.slots:
        return replace(seen, unmoved_s=seen.unmoved_s + step_s)
    return replace(seen, unmoved_s=0.0, unmoved_from_ticks=seen.look.process.cpu_ticks)
