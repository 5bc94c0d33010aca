"""Who listens on a TCP port of this machine: read from /proc, without a packet sent."""

from __future__ import annotations

import os
from dataclasses import dataclass

_LISTEN = "0A"  # include/net/tcp_states.h


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
            with open(f"/proc/self/net/{table}", encoding="ascii") as file:
                rows = file.readlines()[1:]
        except OSError:  # no IPv6 in this kernel
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[9]))
    return frozenset(found)


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
