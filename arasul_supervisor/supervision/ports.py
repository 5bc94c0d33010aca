"""Who listens on a TCP port of this machine, and who is connected to it: the kernel tells, without a packet sent."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision import net_tables, sock_diag
from arasul_supervisor.supervision.tcp_socket import ESTABLISHED, LISTEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from arasul_supervisor.supervision.tcp_socket import TcpSocket

_LOOPBACK: Final = socket.inet_aton("127.0.0.1")


@dataclass(frozen=True, slots=True)
class PortHolder:
    """The process that listens on a port; all null when it is hidden from us (another user's, another namespace's)."""

    pid: int | None
    exe: str | None
    command: str | None

    @property
    def sentence(self) -> str:
        """`pid 812 (/usr/bin/ollama)`."""
        if self.pid is None:
            return "a process that is hidden from this user"
        return f"pid {self.pid} ({self.exe or self.command or 'unknown program'})"


@dataclass(frozen=True, slots=True)
class Connections:
    """Who is connected to a port, by the far port; `unread_bytes` of what it said wait to be read by them."""

    peers: frozenset[int] = frozenset()
    unread_bytes: int = 0


def holder_of_port(port: int) -> PortHolder | None:
    """Who listens on `port`, on any address; None when nobody does. Tens of milliseconds: call it in a thread."""
    inodes = listening_inodes(port)
    if not inodes:
        return None
    for name in os.listdir("/proc"):
        if name.isdigit() and holds_socket(int(name), inodes):
            return PortHolder(int(name), _exe(name), _command(name))
    return PortHolder(None, None, None)


def listening_inodes(port: int) -> frozenset[int]:
    """Inodes of the sockets that listen on `port`."""
    found: set[int] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            listeners = _sockets_at((port,), LISTEN, family)
        except OSError:  # no IPv6 in this kernel
            continue
        found.update(one.inode for one in listeners)
    return frozenset(found)


def connections_to(ports: Collection[int]) -> Mapping[int, Connections] | None:
    """What is connected to each of these on 127.0.0.1; None when that cannot be read.

    Counted from the listening side, also what it has not accepted yet. What its peer has closed is not counted.
    Runners listen on IPv4 alone.
    """
    try:
        sockets = _sockets_at(ports, ESTABLISHED, socket.AF_INET)
    except OSError:
        return None
    peers: dict[int, set[int]] = {port: set() for port in ports}
    unread: Counter[int] = Counter()
    for one in sockets:
        if one.address == _LOOPBACK and one.port in peers:
            peers[one.port].add(one.far_port)
            unread[one.port] += one.sent_bytes
        elif one.far_address == _LOOPBACK and one.far_port in peers:
            unread[one.far_port] += one.received_bytes
    return {port: Connections(frozenset(far), unread[port]) for port, far in peers.items()}


def unread_at(port: int) -> int | None:
    """Bytes that wait to be read by whoever is connected to that port of ours, on any address; None when unknown."""
    unread = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            sockets = _sockets_at((port,), ESTABLISHED, family)
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        except OSError:
            return None
        # a client on this machine has what came in; of another only what it has not taken is known
        unread += sum(one.sent_bytes if one.port == port else one.received_bytes for one in sockets)
    return unread


def listener_among(pids: Iterable[int], port: int) -> int | None:
    """The first of these that has a listening socket of that port open; None when none has."""
    inodes = listening_inodes(port)
    return next((pid for pid in pids if holds_socket(pid, inodes)), None)


def holds_socket(pid: int, inodes: frozenset[int]) -> bool:
    """True when `pid` has one of these sockets open; False also when its descriptors are hidden from us."""
    links = {f"socket:[{inode}]" for inode in inodes}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if _link(f"/proc/{pid}/fd/{fd}") in links:
                return True
    except OSError:
        return False
    return False


def _sockets_at(ports: Collection[int], state: int, family: socket.AddressFamily) -> list[TcpSocket]:
    """The sockets of this state and family that have one of these ports on either end.

    :raises OSError: they are not to be had; FileNotFoundError where this kernel has no IPv6
    """
    if not ports:
        return []
    try:
        return sock_diag.sockets_at(ports, state=state, family=family)
    except OSError:  # refused, see sock_diag.py
        return net_tables.sockets_at(ports, state=state, family=family)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _exe(pid: str) -> str | None:
    return _link(f"/proc/{pid}/exe")


def _command(pid: str) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
