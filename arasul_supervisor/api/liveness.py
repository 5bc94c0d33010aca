"""`/livez`: that this is answered is the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route

if TYPE_CHECKING:
    from arasul_supervisor.api.routes import Call


@dataclass(frozen=True, slots=True)
class Alive:
    """The body of `/livez`."""

    status: str = "alive"


_ALIVE: Final = Reply(msgspec.json.encode(Alive()))


def livez(call: Call) -> Reply:
    """Nothing is looked at."""
    return _ALIVE


LIVEZ: Final = Route("GET", "/livez", livez, "200 while the daemon itself turns", {200: Alive})
