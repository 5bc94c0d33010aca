"""The management port from the moment that aiohttp is there: `/livez` is answered while all the rest is imported.

Whatever else is asked waits until there is somebody to answer it, as it has waited in the socket's queue before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arasul_supervisor.api.dispatch import Dispatch
from arasul_supervisor.api.guards import Guard
from arasul_supervisor.api.liveness import LIVEZ
from arasul_supervisor.api.routes import RouteTable
from arasul_supervisor.api.server import open_port

if TYPE_CHECKING:
    import socket

    from aiohttp import web

    from arasul_supervisor.api.server import ManagementApi, Runner
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.settings import Settings


class Doorway:
    """Owns the port; `open_doorway` makes it."""

    def __init__(self, guard: Guard, log: EventLog) -> None:
        self._early = Dispatch(RouteTable((LIVEZ,)), guard, passthrough=None, daemon_log=log)
        self._dispatch: asyncio.Future[Dispatch] = asyncio.get_running_loop().create_future()
        self.runner: Runner | None = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request that came, or on a connection that was made, before the rest was there."""
        if not self._dispatch.done() and request.raw_path == LIVEZ.path:
            return await self._early(request)
        dispatch = await asyncio.shield(self._dispatch)
        return await dispatch(request)

    def hand_over(self, api: ManagementApi) -> None:
        """The rest is there: answer all that waits, and leave new connections to it."""
        self._dispatch.set_result(api.dispatch)
        if self.runner is not None:
            self.runner.hand_over(api)

    async def close(self) -> None:
        """Let all callers go, within a second."""
        if self.runner is not None:
            await self.runner.cleanup()


async def open_doorway(settings: Settings, sock: socket.socket, log: EventLog) -> Doorway:
    """Begin to answer on a socket that is bound already."""
    doorway = Doorway(Guard(settings), log)
    doorway.runner = await open_port(sock, doorway)
    return doorway
