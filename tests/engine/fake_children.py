"""The processes that the fake engine makes: helpers in its group, escaped ones, storms, runners."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tests.engine.fake_runner_process import RunnerProcess

if TYPE_CHECKING:
    from tests.engine.fake_modes import Orders

_runners: list[RunnerProcess] = []


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


def start_runner(blob: str, *, family: str, load_s: float, reads: bool, dies: bool = False) -> RunnerProcess:
    """Start a model runner as a child, with the arguments that real ones carry; `dies`: at once, as if killed."""
    port, command = _runner_command(blob, family)
    environment = {**os.environ, **_runner_orders(family, load_s, reads=reads, dies=dies)}
    runner = RunnerProcess(_spawn(command, environment), port, family)
    _runners.append(runner)
    return runner


def start_orphan(blob: str, *, family: str) -> None:
    """Start a model runner in a session of its own, below a parent that ends at once."""
    _, command = _runner_command(blob, family)
    environment = {**os.environ, **_runner_orders(family, 0, reads=False, dies=False)}
    # not among its arguments, or it would look like a runner itself
    parent = _spawn([*command[:5], "leave"], {**environment, "FAKE_LEAVES": "\n".join(command)})
    os.waitpid(parent, 0)


def leave() -> None:
    """Start what FAKE_LEAVES says, in a session of its own, and end."""
    command = os.environ["FAKE_LEAVES"].split("\n")
    os.posix_spawn(sys.executable, command, os.environ, setsid=True, setsigdef=[signal.SIGPIPE])


def end_runners() -> None:
    """Kill all runners, and wait a second for each."""
    for runner in _runners:
        runner.kill()


def _runner_command(blob: str, family: str) -> tuple[int, list[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-S", "-E", "-s", sys.argv[0]]
    if family == "0.24":
        return port, [*command, "runner", "--model", blob, "--port", str(port)]
    command += ["llama-server", "--model", blob, "--port", str(port), "--host", "127.0.0.1"]
    return port, [*command, "--no-webui", "--offline", "-c", "2048", "-np", "1"]


def _runner_orders(family: str, load_s: float, *, reads: bool, dies: bool) -> dict[str, str]:
    return {"FAKE_RUNNER": f"runner,family={family},load_s={load_s},reads={int(reads)},dies={int(dies)}"}


def _spawn(command: list[str], environment: dict[str, str]) -> int:
    return os.posix_spawn(sys.executable, command, environment, setsigdef=[signal.SIGPIPE])


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
