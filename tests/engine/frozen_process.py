"""Faults 2, 3, 5 and 6 of facts/ollama.md §11: a runner that is stopped, stopped again, or met while it loads."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# a tiny model loads in 260 ms, and says that it has after a part of that
_LOOK_EVERY_S = 0.001


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process is stopped at the beginning, and continued at the end if it still lives."""
    with _held(pid) as send:
        send(signal.SIGSTOP)
        try:
            yield
        finally:
            send(signal.SIGCONT)


@contextlib.contextmanager
def frozen_again(pid: int) -> Iterator[list[float]]:
    """The process is stopped each time that it runs, so that SIGCONT does not cure it; when it was, in monotonic s."""
    with _held(pid) as send:
        stops: list[float] = []

        def stop() -> bool:
            if _state(pid) not in "TtZX" and send(signal.SIGSTOP):
                stops.append(time.monotonic())
            return False

        try:
            with _watching(stop):
                yield stops
        finally:
            send(signal.SIGCONT)


@contextlib.contextmanager
def on_each_load(engine_pid: int, number: signal.Signals, *, n_loads: int = 1) -> Iterator[list[int]]:
    """The next runners of the engine get that signal as soon as they appear; their pids. SIGCONT at the end.

    SIGSTOP makes loads that hang (row 6), SIGKILL ones that die before their first health answer (row 5).
    """
    met: list[int] = []
    known = set(_children(engine_pid))

    def meet() -> bool:
        for pid in set(_children(engine_pid)) - known:
            if _is_runner(pid):  # not before it has become one: at first it looks like its parent
                known.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    met.append(pid)
        return len(met) >= n_loads

    try:
        with _watching(meet):
            yield met
    finally:
        for pid in met:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _held(pid: int) -> Iterator[Callable[[signal.Signals], bool]]:
    """A way to signal this process and no later one of its number; it says whether there was one."""
    pidfd = os.pidfd_open(pid)

    def send(number: signal.Signals) -> bool:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        return True

    try:
        yield send
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _watching(look: Callable[[], bool]) -> Iterator[None]:
    """A thread that looks on and on, until the end or until a look says that it was the last."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_EVERY_S) and not look():
            pass

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def _is_runner(pid: int) -> bool:
    try:
        return b"--model" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
