"""What the engine of these benches says of itself: when each of its lives began."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    Kind = Literal["first", "ready", "asked"]
    """Its first instruction; it listens; it has answered its first `GET /api/version`."""

LIMIT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """One line of the engine. `at_ns`: by CLOCK_MONOTONIC. `pid`: as the engine sees itself."""

    kind: str
    at_ns: int
    pid: int


class Stamps:
    """A FIFO that the engine writes and we read; it is ours all the time, so the engine never waits for us."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._rest = b""
        self._read: deque[Stamp] = deque()

    def wait_for(self, kind: Kind, *, limit_s: float = LIMIT_S) -> Stamp:
        """The next stamp of that kind; those before it are thrown away.

        :raises TimeoutError: none came in time
        """
        end_s = time.monotonic() + limit_s
        while True:
            while self._read:
                stamp = self._read.popleft()
                if stamp.kind == kind:
                    return stamp
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                raise TimeoutError(f"the engine did not say {kind!r} within {limit_s:g} s")
            self._fill()

    def newest(self, kind: Kind) -> Stamp | None:
        """The last stamp of that kind that has come and was not taken; all that have come are thrown away."""
        while self._poll.poll(0):
            self._fill()
        found = [stamp for stamp in self._read if stamp.kind == kind]
        self._read.clear()
        return found[-1] if found else None

    def close(self) -> None:
        """Give the FIFO back."""
        os.close(self._fd)

    def _fill(self) -> None:
        stamps, self._rest = stamps_in(self._rest + os.read(self._fd, 65536))
        self._read.extend(stamps)


# first 123456789 4711
def stamps_in(text: bytes) -> tuple[list[Stamp], bytes]:
    """The whole lines as stamps, and what is left after them."""
    lines, _, rest = text.rpartition(b"\n")
    words = (line.split() for line in lines.decode().splitlines())
    return [Stamp(kind, int(at_ns), int(pid)) for kind, at_ns, pid in words], rest
