"""The HTTP server of the management port, with what aiohttp's defaults lack for a daemon.

aiohttp (3.11 and 3.14 alike) answers malformed HTTP with text and a banner, lets half a request stay open for ever,
does not cancel handlers whose client has gone, and waits 60 s at its end. Its low-level `web.Server` is used, not
`web.Application`: that one cleans and decodes paths before it finds a route, and paths must pass raw here.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from arasul_supervisor.api.responses import JSON, error_body, error_response
from arasul_supervisor.errors import BadInput, SlowRequest

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from aiohttp.streams import StreamReader

    from arasul_supervisor.api.dispatch import Dispatch
    from arasul_supervisor.errors import ArasulError

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HEAD_S: Final = 10.0
IDLE_S: Final = 75.0
LINGER_S: Final = 2.0
SHUTDOWN_S: Final = 0.25
RESERVED_DESCRIPTORS: Final = 48  # 18 are open on an idle daemon; a restart needs a handful more
BACKLOG: Final = 512
MAX_LINE_BYTES: Final = 32 * 1024


class Request(web.BaseRequest):
    """A request whose response names no server software."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        # aiohttp calls this between "headers are complete" and "headers are written", for error responses too.
        response.headers.popall("Server", None)


@dataclass(slots=True)
class Crowd:
    """How many clients are connected, and how many may be."""

    limit: int
    n_open: int = 0


def connection_limit() -> int:
    """Clients that may be connected at once: each may need a second descriptor, for its request to the engine."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, (soft - RESERVED_DESCRIPTORS) // 2)


class Connection(web.RequestHandler):
    """One client's connection: malformed HTTP is answered in our shape, half a request ends after 10 s."""

    __slots__ = ("_body", "_crowd", "_head_timer")

    def __init__(
        self, manager: web.Server, crowd: Crowd, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        # `options` are aiohttp's own, passed through by `web.Server`
        super().__init__(manager, loop=loop, **options)
        self._crowd = crowd
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.n_open += 1
        if self._crowd.n_open > self._crowd.limit:
            self.force_close()  # the engine, its log and its pidfd need descriptors too
            return
        self._head_timer = self._loop.call_later(HEAD_S, self._end_slow_head)

    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        try:
            super().data_received(data)
        except ValueError:  # aiohttp 3.11 lets the faults of some targets escape, `http://[` for one
            self._refuse(400, "Bad Request", BadInput("This is not a well-formed HTTP request."))
            return
        if self._request_count != heads:
            if self._head_timer is not None:
                self._disarm()
            self._body = self._messages[-1][1] if self._messages else None
        elif data and self._head_timer is None and (self._body is None or self._body.is_eof()):
            self._head_timer = self._loop.call_later(HEAD_S, self._end_slow_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._crowd.n_open -= 1
        self._disarm()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP (400). Nothing is logged: anybody can send garbage."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of a response has been sent")
        response = error_response(BadInput("This is not a well-formed HTTP request.", hint=_what(message)))
        response.force_close()
        return response

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_slow_head(self) -> None:
        self._head_timer = None
        if self.transport is None or self._current_request is not None or self._messages:
            return  # half a head behind a request that is being answered: the idle limit ends it
        self._refuse(408, "Request Timeout", SlowRequest())

    def _refuse(self, status: int, reason: str, error: ArasulError) -> None:
        """Answer without a request, and hang up."""
        if self.transport is None:
            return
        body = msgspec.json.encode(error_body(error))
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: {JSON}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.force_close()


class Server(web.Server):
    """Makes our kind of connection, and only as many as leave descriptors for the rest of the daemon."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, **options)  # `options` are aiohttp's own
        self._crowd = Crowd(limit=connection_limit())

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._crowd, loop=self._loop, **self._kwargs)


class ManagementApi:
    """All of the management port, ready to be served."""

    def __init__(self, dispatch: Dispatch, at_end: Callable[[], Awaitable[None]]) -> None:
        self.dispatch = dispatch
        self.at_end = at_end


class Runner(web.ServerRunner):
    """A server with what must happen when it ends: say so to the handlers, then close what they used."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, shutdown_timeout=SHUTDOWN_S)
        self._for_new_ones = server
        self._api: ManagementApi | None = None

    def hand_over(self, api: ManagementApi) -> None:
        """Leave the connections that come from now on to this."""
        self._api = api
        self._for_new_ones.request_handler = api.dispatch

    async def shutdown(self) -> None:
        """Called by `cleanup()` once no new connection can come."""
        if self._api is not None:
            self._api.dispatch.is_closing = True
            await self._api.at_end()


async def open_port(sock: socket.socket, handler: Handler) -> Runner:
    """Answer on a socket that is bound already, by this handler until `hand_over`.

    `await runner.cleanup()` ends it within a second.
    """
    server = Server(
        handler,
        request_factory=_make_request,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=IDLE_S,
        lingering_time=LINGER_S,
        auto_decompress=False,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    runner = Runner(server)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    return runner


def _make_request(
    message: Any,  # aiohttp's RawRequestMessage, private to it
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: Any,  # aiohttp's AbstractStreamWriter
    task: asyncio.Task[None],
) -> Request:
    return Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _what(message: str | None) -> str | None:
    """The first line of what aiohttp's parser says, as a sentence."""
    first_line = (message or "").partition("\n")[0].partition(": bytearray(")[0].strip(" :.")
    return f"{first_line[:120]}." if first_line else None
