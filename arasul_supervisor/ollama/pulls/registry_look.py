"""One look at an address of a registry, over proxy, TLS and redirects. Only in a child (`registry_child.py`)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from arasul_supervisor import __version__
from arasul_supervisor.ollama.pulls.registry_route import proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_REDIRECTS: Final = 5
_ACCEPT: Final = "application/vnd.docker.distribution.manifest.v2+json"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


async def look(url: str, *, is_insecure: bool, max_bytes: int) -> Mapping[str, object]:
    """What is answered there, without a bound in time: the daemon ends the child.

    `{"status":200,"retry_after":"","body":"<base64>"}`, the body of a 200 only; `{"endless":"<host>"}`: its body is
    longer than `max_bytes`; `{"trouble":"<class>"}`: it cannot be learned. Never an error's words: they may hold the
    proxy's password.
    """
    try:
        async with _new_session() as session:
            return await _follow(session, URL(url), is_insecure=is_insecure, max_bytes=max_bytes)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
        return {"trouble": type(error).__name__}


async def _follow(
    session: aiohttp.ClientSession, url: URL, *, is_insecure: bool, max_bytes: int
) -> Mapping[str, object]:
    for _ in range(1 + _MAX_REDIRECTS):
        async with session.get(url, proxy=proxy_for(url), allow_redirects=False) as response:
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                return await _told(response, max_bytes)
        url = url.join(URL(location))
        if url.scheme != "https" and not is_insecure:
            raise ValueError("redirected to plain http")
    raise ValueError("redirected without end")


async def _told(response: aiohttp.ClientResponse, max_bytes: int) -> Mapping[str, object]:
    body = bytearray()
    if response.status == 200:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                return {"endless": response.url.authority}
    return {
        "status": response.status,
        "retry_after": response.headers.get("Retry-After", ""),
        "body": b64encode(body).decode(),
    }


def _new_session() -> aiohttp.ClientSession:
    """A session without cookies, without aiohttp's own limits, and without what `~/.netrc` has for the host."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True, resolver=aiohttp.ThreadedResolver()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Accept": _ACCEPT,
            "Accept-Encoding": "identity",
            "User-Agent": f"arasul-supervisor/{__version__}",
        },
        auto_decompress=False,
        trust_env=False,
    )
