"""The TCP sockets at certain ports, read from the kernel's text tables: for where it may not be asked in binary."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.tcp_socket import LISTEN, TcpSocket

if TYPE_CHECKING:
    from collections.abc import Collection


def sockets_at(ports: Collection[int], *, state: int, family: socket.AddressFamily) -> list[TcpSocket]:
    """The sockets of this state and family that have one of these ports on either end.

    A row: `0: 0100007F:2CAA 0100007F:D2F4 01 00000000:00000000 00:00000000 00000000 0 0 31337 …`: own end, far end,
    state, sent and received bytes, timers, user, inode.

    :raises OSError: the table cannot be read; FileNotFoundError where this kernel has no IPv6
    """
    found = []
    with open(f"/proc/self/net/{'tcp' if family == socket.AF_INET else 'tcp6'}", encoding="ascii") as file:
        for row in file.readlines()[1:]:
            fields = row.split()
            if int(fields[3], 16) != state:
                continue
            here, _, port = fields[1].partition(":")
            far, _, far_port = fields[2].partition(":")
            if int(port, 16) in ports or int(far_port, 16) in ports:
                sent, _, received = fields[4].partition(":") if state != LISTEN else ("0", "", "0")
                found.append(
                    TcpSocket(
                        _packed(here),
                        int(port, 16),
                        _packed(far),
                        int(far_port, 16),
                        int(sent, 16),
                        int(received, 16),
                        int(fields[9]),
                    )
                )
    return found


def _packed(address: str) -> bytes:
    """`0100007F`, words of four bytes, each printed as a number."""
    words = (address[at : at + 8] for at in range(0, len(address), 8))
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
