"""What a process needs under its feet before it opens anything: signals, standard descriptors, room for more."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_STANDARD: Final = (0, 1, 2)
_DESCRIPTORS: Final = 65_536
"""Enough for any box; some containers allow a thousand million, which some programs walk through one by one."""

_M_ARENA_MAX: Final = -8  # malloc.h of glibc
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_SUPERVISORD: Final = (b"supervisord", b"supervisord.py", b"supervisor.supervisord")


class EarlySignals:
    """Keeps a request to end that comes before the loop can take it.

    As PID 1 it would be dropped by the kernel, elsewhere it would end the launch halfway (facts/process.md §7).
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None

    def install(self) -> None:
        """Listen from now on; the loop's own handlers take over later.

        By handlers, which an exec undoes: what is ignored the engine would inherit.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._note)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda _number, _frame: None)  # there is nothing yet that they are about

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)


def open_missing_standard_descriptors() -> None:
    """Put /dev/null where stdin, stdout or stderr came closed: else the next file opened would be taken for it."""
    for fd in _STANDARD:
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def keep_descriptors_to_ourselves() -> None:
    """Have every exec close what our own parent left open: Python's own are closed anyway."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in _STANDARD:
            with suppress(OSError):  # that of the list itself
                os.set_inheritable(int(name), False)


def raise_descriptor_limit() -> None:
    """Take all descriptors that are allowed: the soft limit is often 1,024, as many as a busy dashboard opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def share_one_heap() -> None:
    """Have all threads allocate from one heap of glibc's; call it before the first of them.

    Each thread would have its own, and what one frees no other takes. Ten bad days of crashes, pulls and log lines
    left 45.9 MiB resident, and 48.9 with a heap each (`make bench-growth_uptime`; glibc 2.36). To have large blocks
    mapped one by one would save another 1.2 MiB, and cost a flood of log lines a fifth more processor time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has one heap anyway
        mallopt(_M_ARENA_MAX, 1)


def let_the_collector_pass_over_what_is_there() -> None:
    """Have the garbage collector leave out all that the launch has made, which stays to the end anyway.

    A full collection walked through 36 ms of modules, again and again while a thousand models were listed, and
    nothing else was done meanwhile (`make bench-stalls`).
    """
    gc.freeze()
    gc.enable()


def end_with_supervisord(environ: Mapping[str, str]) -> None:
    """Have the kernel send us SIGTERM when the supervisord that started us is killed.

    It would leave us running under nobody, and in the way of the daemon that its successor starts.
    """
    parent = os.getppid()
    if "SUPERVISOR_ENABLED" not in environ or not _is_supervisord(parent):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died in between, which sends nothing any more
        os.kill(os.getpid(), signal.SIGTERM)


def _is_supervisord(pid: int) -> bool:
    """True when it runs as `supervisord`, `python -s …/supervisord` or `python -m supervisor.supervisord`."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:4]
    except OSError:
        return False
    return any(os.path.basename(word) in _SUPERVISORD for word in words)
