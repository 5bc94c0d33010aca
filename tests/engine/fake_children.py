"""The processes that the fake engine makes: helpers in its group, escaped ones, storms, runners."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tests.engine.fake_modes import Orders

_runners: dict[str, int] = {}


def make(orders: Orders) -> None:
    """Fork what the modes ask for; called before any thread runs."""
    helpers, escape, storm = orders.find("helpers"), orders.find("escape"), orders.find("storm")
    if helpers:
        for _ in range(int(helpers.number("count", 2))):
            _fork(lambda: _idle(helpers.number("life_s", 60), is_deaf=helpers.number("deaf", 0) > 0))
    if escape:
        for _ in range(int(escape.number("count", 1))):
            os.waitpid(
                _fork(lambda: _escape(escape.number("life_s", 60), is_deaf=escape.number("deaf", 0) > 0)), 0
            )
    if storm:
        for _ in range(int(storm.number("width", 4))):
            _fork(lambda: _chain(storm.number("life_s", 20), escapes=storm.number("escape", 0) > 0))


def note(pid: int) -> None:
    """Write a pid into FAKE_OLLAMA_PIDS."""
    path = os.environ.get("FAKE_OLLAMA_PIDS")
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{pid}\n")


def start_runner(model: str, blob: str) -> int:
    """Start a model runner as a child, with the arguments that real ones carry."""
    if model not in _runners:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-S",
            "-E",
            "-s",
            sys.argv[0],
            "runner",
            "--model",
            blob,
            "--port",
            str(port),
        ]
        command += ["--host", "127.0.0.1", "--no-webui", "--offline"]
        _runners[model] = os.posix_spawn(sys.executable, command, os.environ, setsigdef=[signal.SIGPIPE])
    return _runners[model]


def end_runner(model: str) -> None:
    """Kill and reap the runner of that model, if there is one."""
    pid = _runners.pop(model, None)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def end_runners() -> None:
    """Kill all runners."""
    for model in list(_runners):
        end_runner(model)


def _fork(action: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            assert callable(action)
            action()
        finally:
            os._exit(0)
    return pid


def _idle(life_s: float, *, is_deaf: bool) -> NoReturn:
    note(os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if is_deaf else signal.SIG_DFL)
    time.sleep(life_s)
    os._exit(0)


def _escape(life_s: float, *, is_deaf: bool) -> None:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        _idle(life_s, is_deaf=is_deaf)


def _chain(life_s: float, *, escapes: bool) -> NoReturn:
    end = time.monotonic() + life_s
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        if escapes:
            os.setsid()
        time.sleep(0.002)
    os._exit(0)
