"""What the kernel tells of one TCP socket, whichever way it was asked."""

from __future__ import annotations

from typing import Final, NamedTuple

ESTABLISHED: Final = 1  # include/net/tcp_states.h
LISTEN: Final = 10


class TcpSocket(NamedTuple):
    """One end of a connection, or a socket that listens, whose far end is all zeros.

    Addresses are packed, 4 or 16 bytes. `sent_bytes` the far side has not taken yet, `received_bytes` are not read
    here; both are 0 of one that listens. `inode` is 0 of what nobody has accepted yet.
    """

    address: bytes
    port: int
    far_address: bytes
    far_port: int
    sent_bytes: int
    received_bytes: int
    inode: int
