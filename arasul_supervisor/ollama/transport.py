"""HTTP to the engine for our own calls: bounds, retries, and where aiohttp's errors become ours."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from arasul_supervisor.bounded import within
from arasul_supervisor.errors import ArasulError, EngineDown, EngineSilent
from arasul_supervisor.ollama.refusals import garbled, refusal
from arasul_supervisor.ollama.retry import NO_RETRIES, wait_before_retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager

    from arasul_supervisor.clock import Clock

# `/api/show` of a model with a large vocabulary is the largest answer that we read whole.
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
# An error text is read from a body of at most this size.
MAX_REFUSAL_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One request to Ollama.

    `purpose` follows "Ollama refused to": `list the models`. `retry_waits_s` is empty for what must not be
    repeated.
    """

    method: str
    path: str
    purpose: str
    body: Mapping[str, object] | None = None
    retry_waits_s: tuple[float, ...] = NO_RETRIES


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that brought no 200; `status` is None when the connection failed."""

    error: ArasulError
    status: int | None


class Transport:
    """Sends calls to one Ollama; each on a connection of its own.

    A kept connection dies with the engine and would turn the first call after each restart into an error, which
    a call that must not be repeated could not hide. On loopback a new one costs about 0.1 ms.
    """

    def __init__(self, base_url: str, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, call: Call, *, timeout_s: float | None) -> bytes:
        """The body of a 200, retries included, within that many seconds (None: the caller bounds it).

        :raises EngineDown: nothing listens, or the connection broke
        :raises EngineSilent: no answer within the bound
        :raises ArasulError: Ollama refused, see `refusals`
        """
        deadline_mono = None if timeout_s is None else self._clock.mono() + timeout_s
        try:
            return await within(self._try_often(call, deadline_mono), timeout_s)
        except asyncio.TimeoutError:
            raise EngineSilent(
                f"Ollama was asked to {call.purpose} and did not answer within {timeout_s:g} s.",
                hint="GET /health says what is known; POST /api/process/restart starts it anew.",
            ) from None

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The chunks of a 200 as they come, without a bound; ends with the body.

        :raises EngineDown: nothing listens, or the connection broke
        :raises ArasulError: Ollama refused, see `refusals`
        """
        try:
            async with self._request(call) as response:
                if response.status != 200:
                    body = await _read(response, MAX_REFUSAL_BYTES, call.purpose)
                    raise refusal(response.status, body, purpose=call.purpose)
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._connection_error(error, call.purpose) from error

    async def close(self) -> None:
        """Closes what is open; a later call opens anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _try_often(self, call: Call, deadline_mono: float | None) -> bytes:
        n_failed = 0
        while True:
            outcome = await self._try_once(call)
            if not isinstance(outcome, _Failure):
                return outcome
            wait_s = wait_before_retry(
                call.retry_waits_s,
                n_failed,
                status=outcome.status,
                left_s=None if deadline_mono is None else deadline_mono - self._clock.mono(),
            )
            if wait_s is None:
                raise outcome.error
            n_failed += 1
            await asyncio.sleep(wait_s)

    async def _try_once(self, call: Call) -> bytes | _Failure:
        try:
            async with self._request(call) as response:
                if response.status == 200:
                    return await _read(response, MAX_ANSWER_BYTES, call.purpose)
                body = await _read(response, MAX_REFUSAL_BYTES, call.purpose)
                return _Failure(refusal(response.status, body, purpose=call.purpose), response.status)
        except (aiohttp.ClientError, OSError) as error:
            failure = self._connection_error(error, call.purpose)
            if not isinstance(failure, EngineDown):
                raise failure from error
            return _Failure(failure, None)

    def _request(self, call: Call) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = _new_session()
        return self._session.request(
            call.method,
            self._base_url + call.path,
            data=None if call.body is None else msgspec.json.encode(call.body),
            headers={"Content-Type": "application/json"} if call.body is not None else None,
            allow_redirects=False,
        )

    def _connection_error(self, error: aiohttp.ClientError | OSError, purpose: str) -> ArasulError:
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = (
                "nothing listens"
                if error.errno == errno.ECONNREFUSED
                else f"no connection ({error.strerror})"
            )
            return EngineDown(
                f"Ollama is not up: {reason} at {self._base_url}.", hint="GET /health says why."
            )
        if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)):
            return EngineDown(
                f"Ollama was asked to {purpose} and closed the connection before its answer was complete.",
                hint="It may have ended; GET /health says what is known.",
            )
        words = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
        return garbled(purpose, words.partition("\n")[0].strip(" :") or type(error).__name__)


def _new_session() -> aiohttp.ClientSession:
    """A session without aiohttp's own limits (300 s in all, 100 connections) and without proxies."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "arasul-supervisor"},
        auto_decompress=False,
        trust_env=False,
    )
    # aiohttp sends a lost DELETE a second time by itself; a model that the first one removed would be "not found".
    session._retry_connection = False
    return session


async def _read(response: aiohttp.ClientResponse, limit_bytes: int, purpose: str) -> bytes:
    """The whole body.

    :raises EngineRefused: when it is longer than the limit
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise garbled(purpose, f"it is longer than {limit_bytes} bytes")
    return bytes(body)
