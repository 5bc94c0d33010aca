"""The management port, taken before anything is touched: whoever holds it is the daemon of this box."""

from __future__ import annotations

import errno
import os
import socket

from arasul_supervisor.errors import CannotRunHere

_BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens already: with SO_REUSEADDR a bound one that does not listen would let a second in.

    Connections wait in its queue until the API serves them.

    :raises CannotRunHere: the port is taken (and by whom), or the address is not ours
    """
    family, kind, proto, _, address = _resolve(host, port)
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotRunHere(*_refusal(host, port, error)) from error
    sock.setblocking(False)
    return sock


_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def _resolve(host: str, port: int) -> tuple[int, int, int, str, _Address]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise CannotRunHere(f"ARASUL_HOST={host} is no address of this machine: {error.strerror}.") from error


def _refusal(host: str, port: int, error: OSError) -> tuple[str]:
    if error.errno == errno.EADDRINUSE:
        from arasul_supervisor.supervision.ports import holder_of_port  # a free port does not pay for it

        holder = holder_of_port(port)
        held = f"is held by {holder.sentence}" if holder else "is in use"
        return (f"The management port {port} {held}. Stop that program, or set ARASUL_PORT to another port.",)
    return (f"The management port {host}:{port} cannot be opened: {os.strerror(error.errno or 0)}.",)
