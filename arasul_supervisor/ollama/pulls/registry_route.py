"""How a registry is reached: the proxy that Ollama would take, and the address of a host."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

from aiohttp.abc import AbstractResolver

from arasul_supervisor.offload import Offload

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from yarl import URL

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def proxy_for(url: URL) -> str | None:
    """The proxy for this address by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, with its credentials; None: straight.

    As Go reads them (golang.org/x/net/http/httpproxy): nothing on loopback goes to a proxy, and one without a
    scheme is reached by http. Not aiohttp's `trust_env`, which also sends what `~/.netrc` has for the host.
    """
    proxy = getproxies().get(url.scheme)
    if not proxy or _is_loopback(url.host or "") or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Resolver(AbstractResolver):
    """Asks the system for addresses in a thread of its own, one host at a time.

    The loop's own executor would keep the daemon from ending while a name server is silent (`offload`).
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._thread = Offload("registry-dns")
        self._turn = asyncio.Lock()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the host.

        :raises OSError: there is none, or no answer within the bound
        """
        async with self._turn:
            found = await self._thread.call(
                lambda: socket.getaddrinfo(
                    host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                ),
                timeout_s=self._timeout_s,
            )
        if found is None:
            raise OSError(f"no name server answered for {host} within {self._timeout_s:g} s")
        return [
            {
                "hostname": host,
                "host": str(address[0]),
                "port": port,
                "family": of_family,
                "proto": protocol,
                "flags": _NUMERIC,
            }
            for of_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Lets the thread end; one that is stuck is left behind."""
        await self._thread.settle(timeout_s=0)
