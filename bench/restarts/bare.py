"""A bare aiohttp server beside ours, and the instant at which either answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from bench.restarts.contenders import Contender
from tests.engine.daemon import send
from tests.engine.processes import pick_free_port

PROGRAM: Final = Path(__file__).with_name("bare_program.py")
LIMIT_S: Final = 15.0
RETRY_S: Final = 0.001


class BareServer(Contender):
    """It owns no engine. `answered_ms`: from its launch to its first answer."""

    name = "a bare aiohttp server"

    def configure(self) -> None:
        """One route."""
        self.port, self.answered_ms = pick_free_port(), 0.0
        self.command = [str(self.ground.python), str(PROGRAM), str(self.port)]

    def wait_started(self) -> None:
        """Return when it answers."""
        self.answered_ms = answered_ms(self.port, self.launched_at_ns)


def answered_ms(port: int, since_ns: int) -> float:
    """Milliseconds from then until `/livez` answers 200; asked every millisecond while it is refused."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        try:
            if send(port, "GET", "/livez").status == 200:
                return (time.monotonic_ns() - since_ns) / 1e6
        except OSError:
            pass
        time.sleep(RETRY_S)
    raise TimeoutError(f"/livez did not answer on port {port} within {LIMIT_S:g} s")
