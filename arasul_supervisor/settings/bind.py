"""Addresses to bind: the forms that OLLAMA_HOST may take, and what an address means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

DEFAULT_ENGINE_HOST: Final = "0.0.0.0"
DEFAULT_ENGINE_PORT: Final = 11434
FOREIGN_PORT: Final = 11435  # belongs to another service on these boxes

# A letter is needed: '11434' and '256.0.0.1' are slips, not names.
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)(?=.*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Bind:
    """A host without brackets and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return netloc(self.host, self.port)


def parse_engine_bind(text: str) -> Bind:
    """OLLAMA_HOST in any form that Ollama's users write: `host`, `host:port`, `:port`, `[::1]:port`, `http://host:port`.

    :raises ValueError: with the reason. Ollama would take an invalid port for 11434, and a URL without
        a port for port 80 (facts/ollama.md §2.3): both are refused here
    """
    scheme, is_url, rest = text.rpartition("://")
    if is_url and scheme.lower() != "http":
        raise ValueError("the engine speaks plain HTTP only")
    address = rest[:-1] if rest.endswith("/") else rest
    if "@" in address:
        raise ValueError("a bind address takes no user name")
    if "/" in address:
        raise ValueError("a bind address takes no path")

    host, port = _split(address)
    if port is None:
        if is_url:
            raise ValueError("Ollama's own tools read a URL without a port as port 80")
        return Bind(parse_host(host), DEFAULT_ENGINE_PORT)
    return Bind(parse_host(host) if host else DEFAULT_ENGINE_HOST, parse_port(port))


def parse_host(text: str) -> str:
    """A bare address or host name in its plain form, without brackets; ValueError with the reason."""
    has_brackets = text.startswith("[") and text.endswith("]")
    bare = text[1:-1] if has_brackets else text
    ip = _ip(bare)
    if ip is not None:
        return str(ip)
    if has_brackets or not _HOST_NAME.fullmatch(bare):
        raise ValueError("that is no IP address or host name")
    return bare


def parse_port(text: str) -> int:
    """A TCP port that we may take; ValueError with the reason."""
    port = int(text) if _PORT.fullmatch(text) else 0
    if not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    if port == FOREIGN_PORT:
        raise ValueError(f"port {FOREIGN_PORT} belongs to another service")
    return port


def netloc(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_host(host: str) -> str:
    """The loopback address of the same family for a wildcard; any other host as it is."""
    ip = _ip(host)
    if ip is None or not ip.is_unspecified:
        return host
    return "127.0.0.1" if ip.version == 4 else "::1"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    ip = _ip(host)
    return host.lower() == "localhost" if ip is None else ip.is_loopback


def binds_overlap(one: str, other: str) -> bool:
    """Whether two hosts may claim the same port of one machine. A name may mean any address, so it may."""
    ip, other_ip = _ip(one), _ip(other)
    if ip is None or other_ip is None:
        return True
    if ip == other_ip:
        return True
    if ip.version == other_ip.version:
        return ip.is_unspecified or other_ip.is_unspecified
    # '::' is dual-stack, so it takes the IPv4 addresses too; '0.0.0.0' takes no IPv6 address
    return (ip.version == 6 and ip.is_unspecified) or (other_ip.version == 6 and other_ip.is_unspecified)


def _split(address: str) -> tuple[str, str | None]:
    """Host and port as written; the port is None where none is given."""
    if address.startswith("["):
        host, _, tail = address.partition("]")
        return host + "]", tail[1:] if tail.startswith(":") else tail or None
    if address.count(":") > 1:  # a bare IPv6 address has no room for a port
        return address, None
    host, has_port, port = address.partition(":")
    return host, port if has_port else None


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
