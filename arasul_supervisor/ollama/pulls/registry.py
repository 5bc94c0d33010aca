"""Our own look at a model's manifest in its registry, before Ollama pulls it: what there is to fetch.

Only a look: Ollama asks for the manifest itself and stores it as it was sent to it. A digest of the manifest is
neither sent nor checked by anyone (facts/ollama.md §9), and a tag may move between the two.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from arasul_supervisor import __version__
from arasul_supervisor.bounded import within
from arasul_supervisor.errors import RegistryError
from arasul_supervisor.model_store.manifests import parse_manifest
from arasul_supervisor.ollama.pull_errors import RegistryTrouble
from arasul_supervisor.ollama.pulls.registry_route import Resolver, proxy_for
from arasul_supervisor.settings.model_names import name_parts

if TYPE_CHECKING:
    import ssl

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.manifests import Manifest

LOOK_S: Final = 10.0
MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024
MAX_WAIT_S: Final = 600.0

_MAX_REDIRECTS: Final = 5
_ACCEPT: Final = "application/vnd.docker.distribution.manifest.v2+json"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ASKS_TO_WAIT: Final = frozenset({429, 503})


class RegistryAsksToWait(RegistryTrouble):
    """The registry has too much to do and says when to come back."""

    def __init__(self, host: str, status: int, wait_s: float) -> None:
        super().__init__(f"The registry {host} answers {status} and asks to wait {wait_s:.0f} s.")
        self.wait_s = wait_s


class NoManifest(RegistryError):
    """What the registry sends as a manifest is larger than any."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"What the registry {host} sends as the model's manifest is longer than {MAX_MANIFEST_BYTES} bytes.",
            hint="No model has such a one, and Ollama would read it again at each list of its models.",
        )


class Registry:
    """Looks into registries; each look on a connection of its own."""

    def __init__(
        self, clock: Clock, *, timeout_s: float = LOOK_S, trusted: ssl.SSLContext | None = None
    ) -> None:
        """Connect to nothing yet.

        :param timeout_s: bound of a whole look, redirects and all
        :param trusted: whom to believe; those whom the system believes by default
        """
        self._clock = clock
        self._timeout_s = timeout_s
        self._trusted = trusted
        self._session: aiohttp.ClientSession | None = None
        self._resolver = Resolver(timeout_s=timeout_s)

    async def manifest(self, name: str, *, is_insecure: bool) -> Manifest | None:
        """What the registry has under this name; None when that cannot be learned: then Ollama decides.

        :param name: a well-formed model name
        :param is_insecure: ask by plain http; by https otherwise, whatever scheme stands in the name (§9)
        :raises NoManifest: it sends what is none, without end: Ollama would take it into its memory
        :raises RegistryAsksToWait: it said so, with 429 or 503 and a Retry-After
        """
        try:
            url = manifest_url(name, is_insecure=is_insecure)
            answer = await within(self._ask(url, is_insecure=is_insecure), self._timeout_s)
            if answer.status == 200:
                return parse_manifest(answer.body)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError):
            return None  # Ollama meets the same, and says it to whoever asked for the pull
        wait_s = wait_asked(answer.retry_after, now_wall=self._clock.wall())
        if answer.status in _ASKS_TO_WAIT and wait_s is not None:
            raise RegistryAsksToWait(url.authority, answer.status, wait_s)
        return None

    async def close(self) -> None:
        """Closes the connections that are open."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def _ask(self, url: URL, *, is_insecure: bool) -> _Answer:
        for _ in range(1 + _MAX_REDIRECTS):
            answer = await self._get(url)
            if answer.status not in _REDIRECTS or not answer.location:
                return answer
            url = url.join(URL(answer.location))
            if url.scheme != "https" and not is_insecure:
                raise ValueError("redirected to plain http")
        raise ValueError("redirected without end")

    async def _get(self, url: URL) -> _Answer:
        if self._session is None:
            self._session = _new_session(self._resolver, self._trusted)
        async with self._session.get(url, proxy=proxy_for(url), allow_redirects=False) as response:
            body = await _read(response) if response.status == 200 else b""
            headers = response.headers
            return _Answer(response.status, body, headers.get("Location", ""), headers.get("Retry-After", ""))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    location: str
    retry_after: str


def manifest_url(name: str, *, is_insecure: bool) -> URL:
    """`https://registry.ollama.ai/v2/library/tiny/manifests/latest` for `tiny`; in the case in which it is written.

    :raises ValueError: no address can be made of it, such as for port 99999
    """
    host, namespace, model, tag = name_parts(name)
    scheme = "http" if is_insecure else "https"
    return URL(f"{scheme}://{host}/v2/{namespace}/{model}/manifests/{tag}")


def wait_asked(retry_after: str, *, now_wall: float) -> float | None:
    """Seconds that a Retry-After header asks for, 600 at most; None where it says nothing. Pure.

    `30`, or `Fri, 31 Dec 1999 23:59:59 GMT`.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait_s = float(text)
    else:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - now_wall
        except (ValueError, OverflowError):
            return None
    return min(MAX_WAIT_S, max(0.0, wait_s))


def _new_session(resolver: Resolver, trusted: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """A session without cookies, and without aiohttp's own limits: the whole look has one."""
    connector = aiohttp.TCPConnector(
        limit=0,
        force_close=True,
        use_dns_cache=False,
        resolver=resolver,
        ssl=True if trusted is None else trusted,
    )
    return aiohttp.ClientSession(
        connector=connector,
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


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_MANIFEST_BYTES:
            raise NoManifest(response.url.authority)
    return bytes(body)
