"""What the kernel tells of sockets in binary and in its text tables is the same: the second stands in for the first.

Guards the looks of healing (who is connected to a runner, what has not been read), wherever netlink may not be used.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.supervision import net_tables, sock_diag
from arasul_supervisor.supervision.tcp_socket import ESTABLISHED, LISTEN
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arasul_supervisor.supervision.tcp_socket import TcpSocket

CLOSE_WAIT = 8
UNREAD = b"x" * 1000
MORE_THAN_ONE_ANSWER = 300  # connections, of two ends: an answer of 32 KiB holds 370 ends


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(held: ExitStack, host: str) -> socket.socket:
    """On a free port; on both families where the host is empty."""
    family = socket.AF_INET if "." in host else socket.AF_INET6
    is_dual = not host
    return held.enter_context(
        socket.create_server((host, 0), family=family, dualstack_ipv6=is_dual, backlog=512)
    )


def connect(held: ExitStack, listener: socket.socket, host: str) -> tuple[socket.socket, socket.socket]:
    """The client and the accepted end."""
    client = held.enter_context(socket.create_connection((host, listener.getsockname()[1])))
    return client, held.enter_context(listener.accept()[0])


def only_listening(held: ExitStack) -> socket.socket:
    return listen(held, "127.0.0.1")


def only_listening_on_ipv6(held: ExitStack) -> socket.socket:
    return listen(held, "::1")


def not_accepted_yet(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    held.enter_context(socket.create_connection(listener.getsockname()))
    return listener


def connected(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    connect(held, listener, "127.0.0.1")
    return listener


def unread_by_the_client(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    _, accepted = connect(held, listener, "127.0.0.1")
    accepted.sendall(UNREAD)
    return listener


def unread_over_ipv6(held: ExitStack) -> socket.socket:
    listener = listen(held, "::1")
    client, _ = connect(held, listener, "::1")
    client.sendall(UNREAD)
    return listener


def closed_by_the_far_side_and_unread(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    client, _ = connect(held, listener, "127.0.0.1")
    client.sendall(UNREAD)
    client.shutdown(socket.SHUT_WR)
    return listener


def ipv4_client_of_an_ipv6_listener(held: ExitStack) -> socket.socket:
    listener = listen(held, "")
    client, _ = connect(held, listener, "127.0.0.1")
    client.sendall(UNREAD)
    return listener


def full_of_what_nobody_reads(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    client, _ = connect(held, listener, "127.0.0.1")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.send(UNREAD * 100)
    return listener


def many_connections(held: ExitStack) -> socket.socket:
    listener = listen(held, "127.0.0.1")
    for _ in range(MORE_THAN_ONE_ANSWER):
        connect(held, listener, "127.0.0.1")
    return listener


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "scene",
    [
        only_listening,
        only_listening_on_ipv6,
        not_accepted_yet,
        connected,
        unread_by_the_client,
        unread_over_ipv6,
        closed_by_the_far_side_and_unread,
        ipv4_client_of_an_ipv6_listener,
        full_of_what_nobody_reads,
        many_connections,
    ],
)
def test_both_ways_tell_the_same(
    scene: Callable[[ExitStack], socket.socket], family: socket.AddressFamily, held: ExitStack
) -> None:
    port = scene(held).getsockname()[1]

    def differ() -> list[int]:
        return [state for state in (ESTABLISHED, CLOSE_WAIT, LISTEN) if binary(state) != text(state)]

    def binary(state: int) -> list[TcpSocket]:
        return sorted(sock_diag.sockets_at([port], state=state, family=family))

    def text(state: int) -> list[TcpSocket]:
        return sorted(net_tables.sockets_at([port], state=state, family=family))

    wait_until(
        lambda: not differ(), limit_s=5, what="both look at what has settled"
    )  # bytes may be on their way


def test_what_is_closed_by_the_far_side_is_told_with_what_is_unread(held: ExitStack) -> None:
    port = closed_by_the_far_side_and_unread(held).getsockname()[1]

    def unread() -> list[int]:
        found = sock_diag.sockets_at([port], state=CLOSE_WAIT, family=socket.AF_INET)
        return [one.received_bytes for one in found]

    wait_until(lambda: unread() == [len(UNREAD) + 1], limit_s=5, what="the bytes, and the end as one more")


def test_an_ipv4_client_of_an_ipv6_listener_is_told_as_a_mapped_address(held: ExitStack) -> None:
    port = ipv4_client_of_an_ipv6_listener(held).getsockname()[1]
    (accepted,) = sock_diag.sockets_at([port], state=ESTABLISHED, family=socket.AF_INET6)
    assert accepted.far_address == socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")


@pytest.mark.parametrize("n_others", [0, 1, 200])
def test_only_the_ports_that_are_asked_for_are_told(n_others: int, held: ExitStack) -> None:
    asked, unasked = (listen(held, "127.0.0.1") for _ in range(2))
    for one in (asked, unasked):
        connect(held, one, "127.0.0.1")
    port = asked.getsockname()[1]
    found = sock_diag.sockets_at([*range(1, n_others + 1), port], state=ESTABLISHED, family=socket.AF_INET)
    assert [port in (one.port, one.far_port) for one in found] == [True, True]


def test_a_connection_is_told_by_either_port(held: ExitStack) -> None:
    client, accepted = connect(held, listen(held, "127.0.0.1"), "127.0.0.1")
    ports = [client.getsockname()[1], accepted.getsockname()[1]]
    of_each = [sock_diag.sockets_at([port], state=ESTABLISHED, family=socket.AF_INET) for port in ports]
    assert sorted(of_each[0]) == sorted(of_each[1])
    assert len(of_each[0]) == 2


def test_a_kernel_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sock_diag, "_bytecode", lambda _ports: b"\xff" * 8)  # no operation of that number
    with pytest.raises(OSError, match="Invalid argument"):
        sock_diag.sockets_at([80], state=ESTABLISHED, family=socket.AF_INET)


# A filter of seccomp(2) by which every socket of AF_NETLINK fails with EPERM; its offsets are those of seccomp_data.
REFUSING = """
import ctypes, socket, struct, sys
AF_NETLINK, EPERM, NUMBER = 16, 1, {"x86_64": 41, "aarch64": 198}[sys.argv[2]]
program = b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 3, NUMBER), (0x20, 0, 0, 16), (0x15, 0, 1, AF_NETLINK),
    (0x06, 0, 0, 0x50000 | EPERM), (0x06, 0, 0, 0x7FFF0000)))
code = ctypes.create_string_buffer(program)
head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(head), 0, 0) == 0
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
except PermissionError:
    from arasul_supervisor.supervision import ports
    port = int(sys.argv[1])
    found = ports.connections_to([port])[port]
    print(len(found.peers), found.unread_bytes, ports.unread_at(port), len(ports.listening_inodes(port)))
"""


def test_where_netlink_is_refused_the_text_tables_tell(held: ExitStack) -> None:
    port = unread_by_the_client(held).getsockname()[1]
    command = [sys.executable, "-c", REFUSING, str(port), os.uname().machine]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=15)
    assert said.stdout.split() == ["1", "1000", "1000", "1"]
