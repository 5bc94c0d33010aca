"""Who may speak to us from a browser: the Host check, the Origin check, and the CORS headers that go with it.

A web page can make its visitor's browser call a port on that visitor's own machine. Two things stop it:
on a loopback bind only local Host names are answered (a rebound DNS name is none), and a call that changes
something must not come from a foreign page.

An origin is *foreign* unless it is (a) named in ARASUL_ORIGINS, (b) a page of this machine, which Ollama admits
too: localhost, 127.0.0.1, [::1] or 0.0.0.0 with any port, or (c) the very address that the browser speaks to, where
that is an IP address or a local name; any other name could be rebound. `null` (a sandboxed page or a file) is foreign.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from arasul_supervisor.api.routes import STATE_CHANGING
from arasul_supervisor.errors import ForbiddenHost, ForbiddenOrigin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy

    from arasul_supervisor.settings import Settings

LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
MAX_REMEMBERED: Final = 64
PREFLIGHT_S: Final = 600


class Guard:
    """Decides from the headers alone; remembers the Host values that it has admitted."""

    def __init__(self, settings: Settings) -> None:
        self._checks_host = settings.is_loopback_bind
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)
        self._machine = socket.gethostname().lower()
        self._admitted_hosts: set[str] = set()

    def check_host(self, host: str) -> None:
        """Pass, or raise ForbiddenHost. An absent Host (HTTP/1.0) passes, as it does in Ollama."""
        if not self._checks_host or host in self._admitted_hosts:
            return
        if not is_local_host(_name_of(host), self._machine):
            raise ForbiddenHost(
                f"The Host {host[:100]!r} is no local name, and this address is bound to loopback.",
                hint="Call it as localhost or 127.0.0.1, or bind ARASUL_HOST to another address.",
            )
        if len(self._admitted_hosts) < MAX_REMEMBERED:
            self._admitted_hosts.add(host)

    def check_origin(self, method: str, headers: CIMultiDictProxy[str]) -> None:
        """Pass, or raise ForbiddenOrigin: a page of a foreign origin must not change anything here."""
        origin = headers.get("Origin")
        if (
            origin is None
            or method not in STATE_CHANGING
            or self.is_admitted(origin, headers.get("Host", ""))
        ):
            return
        raise ForbiddenOrigin(
            f"A web page of the origin {origin[:100]!r} may not change anything here.",
            hint="Name it in ARASUL_ORIGINS to allow it.",
        )

    def is_admitted(self, origin: str, host: str) -> bool:
        """True unless the origin is foreign."""
        if origin.lower() in self._origins or "*" in self._origins:
            return True
        try:
            page = urlsplit(origin)
            name = page.hostname or ""
        except ValueError:
            return False
        if page.scheme not in ("http", "https") or not name:
            return False
        if name in THIS_MACHINE:
            return True
        return page.netloc.lower() == host.lower() and is_local_host(name, self._machine)

    def cors_headers(self, headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
        """What lets the script of an admitted page read our answer; nothing for all others."""
        origin = headers.get("Origin")
        if origin is None:
            return {}
        if not self.is_admitted(origin, headers.get("Host", "")):
            return {"Vary": "Origin"}
        return {"Vary": "Origin", "Access-Control-Allow-Origin": origin}

    def preflight_headers(self, headers: CIMultiDictProxy[str], methods: str) -> Mapping[str, str]:
        """The answer to a browser that asks before it calls (`OPTIONS` with `Access-Control-Request-Method`)."""
        origin = headers.get("Origin", "")
        if not self.is_admitted(origin, headers.get("Host", "")):
            raise ForbiddenOrigin(
                f"A web page of the origin {origin[:100]!r} may not call this.",
                hint="Name it in ARASUL_ORIGINS to allow it.",
            )
        return {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": headers.get("Access-Control-Request-Headers", "Content-Type"),
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }


def is_local_host(name: str, machine: str) -> bool:
    """Ollama's list for a loopback bind: no name, localhost, this machine, local addresses, three suffixes."""
    name = name.lower().rstrip(".")
    if name in ("", "localhost", machine) or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified or _is_of_this_machine(name)


def _name_of(host: str) -> str:
    """`[::1]:11436` → `::1`, `box.local:80` → `box.local`."""
    if host.startswith("["):
        return host[1:].partition("]")[0] or host
    name, _, port = host.rpartition(":")
    return name if name and ":" not in name and port.isdigit() else host


def _is_of_this_machine(address: str) -> bool:
    """True for an address of one of our interfaces: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
