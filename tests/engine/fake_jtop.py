"""A stand-in for the service of jetson-stats: a real process that its real client takes for the real one.

    python -m tests.engine.fake_jtop --socket PATH --payload FILE [--mode MODE] [--tick SECONDS]

Modes:

    normal          the board's uptime moves on with each tick, and the client hears of it
    silent          takes connections, never says a word
    wrong-version   tells a version that no client goes with
    stale           its sampler is dead from the start: what it holds is served, and never changes

SIGUSR1 kills its sampler at any time; SIGSTOP freezes it, SIGTERM ends it and removes the socket. It says `ready` when
it listens. It takes the place of a socket that an earlier life left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import signal
import socket
import sys
import threading
from base64 import b64encode
from importlib.metadata import version
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES: Final = ("normal", "silent", "wrong-version", "stale")
# what the client derives from the name of its author, so that whoever may open the socket knows it
KEY: Final = str(b64encode(b"Raffaello Bonghi")).encode()
SPARES_THE_CPU_S: Final = 0.01


class Manager(SyncManager):
    """Serves the three things that a client asks for, by the names it asks with."""


class FakeJtop:
    """What the service holds: the payload of a board, an event that says it is new, and a queue of wishes."""

    def __init__(self, payload: dict[str, Any], *, mode: str, tick_s: float) -> None:
        """Hold the payload; nothing runs yet."""
        self.wishes: queue.Queue[dict[str, Any]] = queue.Queue()
        self.data = payload
        self.is_new = threading.Event()
        self.sampler_is_dead = threading.Event()
        self._tick_s = tick_s
        self._version = "1.0.0" if mode == "wrong-version" else version("jetson-stats")
        if mode == "stale":
            self.sampler_is_dead.set()

    def run(self, path: Path) -> NoReturn:
        """Serve until SIGTERM."""
        Manager.register("get_queue", callable=lambda: self.wishes)
        Manager.register("sync_data", callable=lambda: self.data)
        Manager.register("sync_event", callable=lambda: self.is_new)
        for work in (self._sample, self._grant):
            threading.Thread(target=work, daemon=True).start()
        signal.signal(signal.SIGUSR1, lambda *_: self.sampler_is_dead.set())
        server = Manager(address=str(path), authkey=KEY).get_server()
        print("ready", flush=True)
        server.serve_forever()
        raise AssertionError("a manager's server ends the process itself")

    def _sample(self) -> None:
        while not self.sampler_is_dead.wait(self._tick_s):
            self.data["uptime"] += self._tick_s
            self.is_new.set()

    def _grant(self) -> None:
        """Answer each greeting once; the queue is the same in both directions, as in the real one."""
        while True:
            wish = self.wishes.get()
            if "init" in wish:
                self.wishes.put(wish)
                threading.Event().wait(SPARES_THE_CPU_S)
            elif "interval" in wish:
                self.wishes.put({"init": self._greeting()})

    def _greeting(self) -> dict[str, object]:
        return {
            "version": self._version,
            "interval": self._tick_s,
            "board": {"hardware": {}, "cpu": {}},
            "memory": "/swapfile",
            "fan": {},
            "jc": False,
        }


def main(arguments: Sequence[str]) -> None:
    """Play the service."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options.socket.unlink(missing_ok=True)
    if options.mode == "silent":
        _say_nothing(options.socket)
    payload = json.loads(options.payload.read_text())
    FakeJtop(payload, mode=options.mode, tick_s=options.tick).run(options.socket)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.engine.fake_jtop")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--payload", type=Path, required=True)
    parser.add_argument("--mode", choices=MODES, default="normal")
    parser.add_argument("--tick", type=float, default=0.05)
    return parser.parse_args(arguments)


def _say_nothing(path: Path) -> NoReturn:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as held:
        listener.bind(str(path))
        held.callback(path.unlink)
        listener.listen()
        print("ready", flush=True)
        while True:
            held.enter_context(listener.accept()[0])


if __name__ == "__main__":
    main(sys.argv[1:])
