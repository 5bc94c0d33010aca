"""Fault 1 of facts/ollama.md §11: the thread that computes stands still, and the rest of the runner lives on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# ptrace(2), linux/ptrace.h; a thread that is no leader is only waited for with __WALL
_DETACH, _SEIZE, _INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000
_WINDOW_S = 0.2
_LOOK_EVERY_S = 0.002
_HOLD_LIMIT_S = 5.0


@contextlib.contextmanager
def frozen_compute_thread(pid: int) -> Iterator[int]:
    """The thread of the process that works most stands still, inside; its tid. Begin it during an answer.

    The process may be killed meanwhile: it is gone at once, as if nobody held it. Skips the test where ptrace is
    not permitted.
    """
    held = _Held(busiest_thread(pid))
    held.begin()
    try:
        yield held.tid
    finally:
        held.end()


@contextlib.contextmanager
def held_threads(tids: Iterable[int]) -> Iterator[None]:
    """All these threads stand still, inside, as a debugger holds them; skips as above."""
    with contextlib.ExitStack() as at_end:
        for tid in tids:
            held = _Held(tid)
            at_end.callback(held.end)
            held.begin()
        yield


def busiest_thread(pid: int) -> int:
    """The thread with the most CPU ticks over a short window."""
    before = thread_ticks(pid)
    time.sleep(_WINDOW_S)
    after = thread_ticks(pid)
    return max(after, key=lambda tid: (after[tid] - before.get(tid, 0), after[tid]))


def thread_ticks(pid: int) -> dict[int, int]:
    """User and system ticks of each thread; empty when the process is gone."""
    found = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            found[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    return found


class _Held:
    """One thread in ptrace's hold. The kernel obeys only the thread that took it, so one thread does all."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.ptrace.restype = ctypes.c_long
        self._is_stopped, self._may_go = threading.Event(), threading.Event()
        self._refusal = 0
        self._holder = threading.Thread(target=self._hold, name=f"holds {tid}", daemon=True)

    def begin(self) -> None:
        self._holder.start()
        if not self._is_stopped.wait(_HOLD_LIMIT_S):
            self.end()
            pytest.fail(f"thread {self.tid} did not stop within {_HOLD_LIMIT_S:g} s")
        if self._refusal:
            self.end()
            reason = f"ptrace of thread {self.tid}: {os.strerror(self._refusal)}"
            if self._refusal in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                pytest.skip(f"NOT TESTED, it needs root or ptrace rights: {reason}")
            pytest.fail(reason)

    def end(self) -> None:
        self._may_go.set()
        self._holder.join()

    def _hold(self) -> None:
        if self._ask(_SEIZE) and self._ask(_INTERRUPT):
            self._wait_while_held()
        self._is_stopped.set()

    def _ask(self, request: int) -> bool:
        if self._libc.ptrace(request, self.tid, None, None) == 0:
            return True
        self._refusal = ctypes.get_errno()
        return False

    def _wait_while_held(self) -> None:
        while not self._may_go.is_set():
            # Looked for all the time: a killed process is not reaped by its parent before its tracer knows.
            if not self._is_there():
                return
            time.sleep(_LOOK_EVERY_S)
        if self._libc.ptrace(_DETACH, self.tid, None, None) != 0:
            # It is being killed. What is left of the hold ends with this thread.
            end = time.monotonic() + _HOLD_LIMIT_S
            while self._is_there() and time.monotonic() < end:
                time.sleep(_LOOK_EVERY_S)

    def _is_there(self) -> bool:
        try:
            tid, status = os.waitpid(self.tid, _WALL | os.WNOHANG)
        except ChildProcessError:
            return False
        if tid and not os.WIFSTOPPED(status):
            return False
        if tid:
            self._is_stopped.set()
        return True
