"""How a registry is reached: the proxy that Ollama would take."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from yarl import URL


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
