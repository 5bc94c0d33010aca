"""Who listens on a TCP port of this machine, and who is connected to it: read from /proc, without a packet sent."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_ESTABLISHED, _LISTEN = "01", "0A"  # include/net/tcp_states.h
_LOOPBACK = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"  # 0100007F on our machines


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
    """Inodes of the sockets that listen on `port`.

    Line of /proc/net/tcp: `0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 31337 …`
    """
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = _rows(table)
        except OSError:  # no IPv6 in this kernel
            continue
        for fields in rows:
            if fields[3] == _LISTEN and _port_in(fields[1]) == port:
                found.add(int(fields[9]))
    return frozenset(found)


def connections_to(ports: Collection[int]) -> Mapping[int, Connections] | None:
    """What is connected to each of these on 127.0.0.1; None when that cannot be read.

    Counted from the listening side, also what it has not accepted yet. What its peer has closed is not counted.
    Runners listen on IPv4 alone, and a table costs 3 ms, for the kernel walks through all sockets of all names.
    Row of /proc/net/tcp: `7: 0100007F:A06F 0100007F:D2F4 01 00000000:00000000 00:00000000 00000000 0 0 31338 …`, where
    the fifth field counts what is sent and not taken, and what is taken and not read, each on its own side.
    """
    local = {f"{_LOOPBACK}:{port:04X}": port for port in ports}
    peers: dict[int, set[int]] = {port: set() for port in ports}
    unread: Counter[int] = Counter()
    try:
        rows = _rows("tcp") if ports else []
    except OSError:
        return None
    for _, here, far, state, queues, *_ in rows:
        sent, _, received = queues.partition(":")
        if state == _ESTABLISHED and here in local:
            peers[local[here]].add(_port_in(far))
            unread[local[here]] += int(sent, 16)
        elif state == _ESTABLISHED and far in local:
            unread[local[far]] += int(received, 16)
    return {port: Connections(frozenset(far), unread[port]) for port, far in peers.items()}


def unread_at(port: int) -> int | None:
    """Bytes that wait to be read by whoever is connected to that port of ours, on any address; None when unknown."""
    unread = 0
    for table in ("tcp", "tcp6"):
        try:
            rows = _rows(table)
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        except OSError:
            return None
        for _, here, far, state, queues, *_ in rows:
            sent, _, received = queues.partition(":")
            if state == _ESTABLISHED and _port_in(here) == port:
                unread += int(sent, 16)
            elif state == _ESTABLISHED and _port_in(far) == port:
                unread += int(received, 16)  # by a client on this machine
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


def _rows(table: str) -> list[list[str]]:
    """The fields of each row of `tcp` or `tcp6`.

    :raises OSError: the table cannot be read
    """
    with open(f"/proc/self/net/{table}", encoding="ascii") as file:
        return [row.split() for row in file.readlines()[1:]]


def _port_in(address: str) -> int:
    """`0100007F:2CAA`."""
    return int(address.rpartition(":")[2], 16)


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
