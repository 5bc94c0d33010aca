"""Everything else below `/api` and `/v1` goes to the engine as it came, and its answer comes back as it is.

Streamed both ways with back-pressure; nothing is decoded, cleaned, compressed, retried or kept. Connections are
made per request and never pooled: a pooled one may be closed by an engine that restarts in the very moment, which
would look like a failed request, or be repeated by the client library.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from arasul_supervisor.api.engine_state import require_up
from arasul_supervisor.api.requests import BODY_S, continue_if_expected
from arasul_supervisor.bounded import within
from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    EngineDown,
    EngineRefused,
    EngineSilent,
    SlowRequest,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from arasul_supervisor.api.unload_wish import UnloadWish
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.supervision.engine import Engine

# RFC 9110 §7.6.1, and `Expect`, which concerns this connection only: we answer it ourselves.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
CONNECT_S: Final = 5.0
MAX_LINE_BYTES: Final = 64 * 1024
CHUNKED_READ_BYTES: Final = 32 * 1024
OWN_HEADERS: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Passthrough:
    """Hands requests to the engine. Its connections are its own: a hundred long answers hinder nobody else."""

    def __init__(self, engine_url: str, engine: Engine, *, unload_wish: UnloadWish, clock: Clock) -> None:
        self._engine_url = URL(engine_url)
        self._engine = engine
        self._unload_wish = unload_wish
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def respond(self, request: web.BaseRequest, target: str) -> web.StreamResponse:
        """The engine's answer.

        :param target: path and query, raw
        :raises EngineDown: it does not run, or went away before it answered
        """
        require_up(self._engine.snapshot, self._clock.mono())
        first, answered = await self._unload_wish.look(request, target)
        if answered is not None:
            return answered
        try:
            async with self._session_now().request(
                request.method,
                self._url(target),
                headers=_forwarded(request.headers),
                data=_body(request, first) if first or request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=OWN_HEADERS,
            ) as answer:
                return await _send_on(request, answer)
        except aiohttp.ClientResponseError as error:
            raise EngineRefused("Ollama's answer is no HTTP.") from error
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise _meaning(error) from error

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    def _url(self, target: str) -> URL:
        """With `encoded=True` a path may hold the query too, and nothing in it is touched: `/a//b/../c?`."""
        here = self._engine_url
        return URL.build(scheme=here.scheme, host=here.host or "", port=here.port, path=target, encoded=True)

    def _session_now(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
            )
            # aiohttp has no public switch for this: it would send a GET, PUT or DELETE that got no answer once more.
            self._session._retry_connection = False
        return self._session


async def _send_on(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """The answer, chunk by chunk; one that breaks off upstream breaks off for the client too."""
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_without_hop_by_hop(answer.headers)
    )
    await response.prepare(request)
    if request.method == "HEAD":
        await response.write_eof()
        return response
    _read_less_at_a_time(answer)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientError as error:
        raise ConnectionAbortedError("the engine broke off its answer") from error
    await response.write_eof()
    return response


def _read_less_at_a_time(answer: aiohttp.ClientResponse) -> None:
    """For answers in chunks: 256 KiB, which asyncio reads at once, may be 2,000 lines that cost 5 µs each.

    Sixteen such streams at full speed took the loop for 60 ms in one turn; with this bound 7 ms, for the same work.
    """
    connection = answer.connection  # None where the answer is here whole
    if connection is None or connection.transport is None or "Transfer-Encoding" not in answer.headers:
        return
    connection.transport.max_size = CHUNKED_READ_BYTES  # type: ignore[attr-defined]  # no public switch for this


def _meaning(error: Exception) -> ArasulError:
    """What a failed request means; aiohttp wraps what the body's source raises."""
    if isinstance(error.__cause__, ArasulError):
        return error.__cause__
    if isinstance(error, asyncio.TimeoutError):
        return EngineSilent()
    return EngineDown("Ollama went away before it answered; GET /health says why.")


async def _body(request: web.BaseRequest, first: bytes) -> AsyncGenerator[bytes, None]:
    """The client's body as it comes. Only waiting for the client is bounded, not the engine's reading."""
    if first:
        yield first
    await continue_if_expected(request)
    while True:
        try:
            # what is here already costs no task
            chunk = request.content.read_nowait() or await within(request.content.readany(), BODY_S)
        except asyncio.TimeoutError:
            raise SlowRequest() from None
        except web.RequestPayloadError as error:
            raise BadInput("The body is not well-formed HTTP.") from error
        if not chunk:
            return
        yield chunk


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The client's headers but for those of its connection; Host becomes the engine's."""
    kept = _without_hop_by_hop(headers)
    kept.popall("Host", None)
    return kept


def _without_hop_by_hop(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, _writable(value))
        for name, value in headers.items()
        if name.lower() not in HOP_BY_HOP and name.lower() not in named
    )


def _writable(value: str) -> str:
    """A header's value that aiohttp can write: it writes UTF-8 only, so that bytes of Latin-1 become that."""
    if value.isascii():
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
