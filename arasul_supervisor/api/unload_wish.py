"""`POST /api/generate` without a model, with keep-alive 0 and no prompt: callers mean "unload everything"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from arasul_supervisor.api.bounds import bounded
from arasul_supervisor.api.requests import read_at_most
from arasul_supervisor.api.responses import reply_response
from arasul_supervisor.errors import EngineSilent

if TYPE_CHECKING:
    from aiohttp import web

    from arasul_supervisor.api.guards import Guard
    from arasul_supervisor.api.unloading import Unloading

GENERATE: Final = "/api/generate"
LOOKED_AT_BYTES: Final = 4096
BOUND_S: Final = 5.0
ZERO: Final = frozenset({"0", "0s", "0m", "0h", "0ms"})


class UnloadWish:
    """Looks for that wish in small bodies, and fulfils it."""

    def __init__(self, unloading: Unloading, guard: Guard) -> None:
        self._unloading = unloading
        self._guard = guard

    async def look(self, request: web.BaseRequest, target: str) -> tuple[bytes, web.Response | None]:
        """What was read of the body, and the answer where the wish is in it.

        Whoever gets no answer must hand the bytes on before the rest of the body. A page of a foreign origin gets none:
        the engine itself decides on its origins.
        """
        is_generate = request.method == "POST" and target.partition("?")[0] == GENERATE
        if not is_generate or (request.content_length or 0) > LOOKED_AT_BYTES:
            return b"", None
        origin = request.headers.get("Origin")
        if origin is not None and not self._guard.is_admitted(origin, request.headers.get("Host", "")):
            return b"", None
        body = await read_at_most(request, LOOKED_AT_BYTES, is_all_wanted=False)
        if len(body) > LOOKED_AT_BYTES or not is_unload_wish(body):
            return body, None
        answer = await bounded(self._unloading.as_generate_answer(), bound_s=BOUND_S, late=EngineSilent)
        return body, reply_response(answer)


def is_unload_wish(body: bytes) -> bool:
    """True for `{"keep_alive": 0}` with no or an empty model and no or an empty prompt."""
    try:
        fields: Any = msgspec.json.decode(body)  # Any: whatever a client sends
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(fields, dict) or any(
        fields.get(name) for name in ("model", "name", "prompt", "images")
    ):
        return False
    keep_alive = fields.get("keep_alive")
    if isinstance(keep_alive, str):
        return keep_alive in ZERO
    return isinstance(keep_alive, (int, float)) and not isinstance(keep_alive, bool) and keep_alive == 0
