"""The protocol of sd_notify(3): what the service manager is told, by datagrams to NOTIFY_SOCKET.

Written by hand, for it is forty lines: the one library that does more wraps libsystemd, which containers lack.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS_VARIABLE: Final = "NOTIFY_SOCKET"
_LONGEST_STATUS: Final = 1_000
"""Letters; `systemctl status` shows one line, and the manager drops datagrams over its own limit."""


class Notifier:
    """Sends assignments to the service manager; does nothing where none asked for them.

    The manager believes the main process only (NotifyAccess=main), so this is never given to a child.
    """

    def __init__(self, address: str) -> None:
        """Take the address.

        :param address: `/run/…` or `@name` (abstract); empty or of another kind, such as `vsock:`: nothing is sent
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_listened_to = address[:1] in ("/", "@") and len(address) > 1
        self._socket: socket.socket | None = None

    def send(self, *assignments: str) -> bool:
        """Send them in one datagram; False when it was not taken: the manager is gone, or does not read."""
        if not self.is_listened_to:
            return False
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError:  # told again at the next change; the daemon's work does not depend on it
            return False
        return True

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Seconds within which the manager wants a sign of life; None when it wants none, or of another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with suppress(ValueError):
        if (limit_us := int(environ.get("WATCHDOG_USEC", "0"))) > 0:
            return limit_us / 1e6
    return None


def status(sentence: str) -> str:
    """The assignment that `systemctl status` shows; one line, whatever the sentence holds."""
    return f"STATUS={' '.join(sentence.split())[:_LONGEST_STATUS]}"


def extend_timeout(seconds: float) -> str:
    """The assignment that keeps a start or a stop from being cut off for so long from now."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"
