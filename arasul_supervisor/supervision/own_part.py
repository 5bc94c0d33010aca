"""Our own part in the end of a generation: what it was told to do, and whether its end was wanted. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision.generation import Message
from arasul_supervisor.supervision.lifecycle import Event

if TYPE_CHECKING:
    from arasul_supervisor.supervision.wiring import EngineLimits


@dataclass(frozen=True, slots=True)
class CureAsked(Message):
    """A restart that heals. Its `reason`: `restarted by healing: 5 heartbeats missed, and no tick of a processor`."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class OwnPart:
    """`told`: what we did to it, as a sentence; None while it was left alone.

    `was_asked`: somebody wanted its end. `is_cure`: healing did.
    """

    told: str | None = None
    was_asked: bool = False
    is_cure: bool = False


NONE: Final = OwnPart()


def own_part_after(part: OwnPart, message: Message, limits: EngineLimits) -> OwnPart:
    """Our part once this has come to a process that is alive; the same value when it adds nothing."""
    if isinstance(message, CureAsked):
        return OwnPart(message.reason, was_asked=True, is_cure=True)
    if message.event is Event.START_TIMED_OUT:
        return OwnPart(f"no answer within {limits.startup_s:g} s of its start")
    if message.event is Event.STOP_TIMED_OUT:
        told = f"still there {limits.stop_s:g} s after SIGTERM"
        return OwnPart(f"{part.told}; {told}" if part.is_cure else told, was_asked=True, is_cure=part.is_cure)
    wish = {Event.STOP_ASKED: "asked to stop", Event.RESTART_ASKED: "asked to restart"}.get(message.event)
    return part if wish is None else OwnPart(wish, was_asked=True)
