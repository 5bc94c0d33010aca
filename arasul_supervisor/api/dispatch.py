"""From a request to its answer: guards, table, bound, errors, in this order and in this place only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from aiohttp import web

from arasul_supervisor.api.answers import LineStream, Reply
from arasul_supervisor.api.bounds import bounded
from arasul_supervisor.api.requests import decode_query, read_json
from arasul_supervisor.api.responses import (
    NO_HEADERS,
    error_response,
    reply_response,
    stream_lines,
    unexpected_error,
)
from arasul_supervisor.api.routes import Call, is_engine_path
from arasul_supervisor.errors import ArasulError, BadInput, BodyTooLarge, SlowRequest, UnknownPath

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.api.guards import Guard
    from arasul_supervisor.api.passthrough import Passthrough
    from arasul_supervisor.api.routes import Match, RouteTable
    from arasul_supervisor.event_log import EventLog

# Printable ASCII stays as it came; any other byte of a request target is written as %XX.
KEPT_IN_TARGET: Final = "".join(chr(code) for code in range(0x21, 0x7F))


class Dispatch:
    """The request handler of the whole port, or of our own part of it. `is_closing` is set once the daemon ends."""

    def __init__(
        self, table: RouteTable, guard: Guard, *, passthrough: Passthrough | None, daemon_log: EventLog
    ) -> None:
        self._table = table
        self._guard = guard
        self._passthrough = passthrough
        self._log = daemon_log
        self.is_closing = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to any request; never raises but for a connection that is gone."""
        try:
            return await self._respond(request)
        except ArasulError as error:
            return self._refuse(request, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._report(error)
            return self._refuse(request, unexpected_error())

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        host, target = _origin_form(request)
        self._guard.check_host(host)
        path, _, query = target.partition("?")
        if request.method == "OPTIONS" and not is_engine_path(path):
            return self._options(request, path)
        match = self._table.find(request.method, path)
        if match is not None:
            return await self._own(request, match, query)
        if is_engine_path(path) and self._passthrough is not None:
            return await self._passthrough.respond(request, target)
        raise UnknownPath(f"There is nothing at {path[:200]}.", hint="GET /openapi.json lists what is here.")

    async def _own(self, request: web.BaseRequest, match: Match, query: str) -> web.StreamResponse:
        route, is_of_a_page = match.route, "Origin" in request.headers
        if is_of_a_page:
            self._guard.check_origin(request.method, request.headers)
        values = decode_query(query, route.query)
        body = await read_json(request, route.body) if route.takes_body else None
        answer = route.handler(Call(match.path, values, body))
        if not isinstance(answer, (Reply, LineStream)):
            if route.bound_s is None:
                answer = await answer
            else:
                answer = await bounded(answer, bound_s=route.bound_s, late=route.late)
        headers = self._guard.cors_headers(request.headers) if is_of_a_page else NO_HEADERS
        if isinstance(answer, Reply):
            return reply_response(answer, headers)
        return await self._stream(request, answer, headers)

    async def _stream(
        self, request: web.BaseRequest, answer: LineStream, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        try:
            return await stream_lines(request, answer, headers=headers, report=self._report)
        except (ConnectionError, asyncio.CancelledError):
            if answer.on_client_gone is not None and not self.is_closing:
                answer.on_client_gone()
            raise

    def _options(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """`OPTIONS *`, a browser's question before its call, and a plain look at what a path takes."""
        methods = "GET, HEAD, POST, DELETE" if path == "*" else self._table.methods_at(path)
        if methods is None:
            raise UnknownPath()
        allowed = f"{methods}, OPTIONS"
        headers: dict[str, str] = {"Allow": allowed, **self._guard.cors_headers(request.headers)}
        if "Access-Control-Request-Method" in request.headers:
            headers.update(self._guard.preflight_headers(request.headers, methods))
        return web.Response(status=204, headers=headers)

    def _refuse(self, request: web.BaseRequest, error: ArasulError) -> web.StreamResponse:
        response = error_response(error)
        response.headers.update(self._guard.cors_headers(request.headers))
        if isinstance(error, (SlowRequest, BodyTooLarge)) or _is_waiting_to_send(request):
            response.force_close()
        return response

    def _report(self, error: Exception) -> None:
        self._log.error("request_failed_unexpectedly", error=type(error).__name__, exc_info=error)


def _origin_form(request: web.BaseRequest) -> tuple[str, str]:
    """The Host and the target (`/path?query`, raw) that the request means.

    A target may be absolute (`GET http://box:11436/health`); its authority then beats the Host header.
    """
    if request.version < (1, 0):
        raise BadInput("HTTP/0.9 is not spoken here.", hint="Say HTTP/1.1 in the request line.")
    target = request.raw_path
    if not target.isascii():
        target = quote(target.encode("utf-8", "surrogateescape"), safe=KEPT_IN_TARGET)
    host = request.headers.get("Host", "")
    if target.startswith("/") or target == "*":
        return host, target
    try:
        absolute = urlsplit(target)
    except ValueError as error:
        raise BadInput("The request target is not a URL.") from error
    if absolute.scheme not in ("http", "https") or not absolute.netloc:
        raise BadInput("The request target must begin with a slash.", hint="Ask for /health, for example.")
    rest = target[target.index("//") + 2 + len(absolute.netloc) :]
    return absolute.netloc.rpartition("@")[2], rest if rest.startswith("/") else f"/{rest}"


def _is_waiting_to_send(request: web.BaseRequest) -> bool:
    """True for a client that was promised a `100 Continue` and never got one: its next bytes are ambiguous."""
    return "Expect" in request.headers and not request.content.is_eof()
