"""Says when a file has grown: by inotify, or by looking often where inotify is not to be had."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IN_MODIFY: Final = 0x2
EVENT: Final = struct.Struct(
    "=iIII"
)  # inotify(7): watch, mask, cookie, length of a name, which a file has not
NET_S: Final = 1.0  # inotify is blind on NFS and below an overlay's copy-up: look each second all the same
REST_S: Final = 5.0  # at rest, once it has told of this very file
POLL_S: Final = 0.05
# Where lines come thick: a turn costs half a millisecond and more, for one line or for twenty.
GATHER_S: Final = 0.015


class Wakeup:
    """One waiter, woken by a change of the watched file, by `set()`, or after a while all the same.

    Two system calls by ctypes need fewer lines than the adaptor for a library would; equal events coalesce in the
    kernel, so a flood costs one wake-up per turn.
    """

    def __init__(self, open_inotify: Callable[[], int]) -> None:
        """Begin in the running loop.

        :param open_inotify: gives a non-blocking inotify descriptor; an OSError of it means: look often instead
        """
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._open_inotify = open_inotify
        self._watch: int | None = None
        self._has_told = False  # of the watched file
        self._fd = -1
        self._told_s = float("-inf")
        self._is_thick = False
        self._listens_again: asyncio.TimerHandle | None = None

    @property
    def is_blind(self) -> bool:
        """True while nothing is watched by inotify: the file is looked at 20 times a second then."""
        return self._watch is None

    def watch(self, path: Path | None) -> None:
        """Watches this file, or none, instead of the one before."""
        if self._watch is not None:
            _libc().inotify_rm_watch(self._fd, self._watch)
            self._watch = None
        self._has_told = False
        if path and self._has_inotify():
            watch = _libc().inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY)
            self._watch = watch if watch >= 0 else None

    def set(self) -> None:
        """Wakes the waiter."""
        self._changed.set()

    async def wait_for_growth(self, *, at_rest_s: float = NET_S, gathers: bool = False) -> None:
        """Returns when the file may have grown: after an event, or when it is time to look all the same.

        :param at_rest_s: how long that is where inotify has proved that it sees this file
        :param gathers: where events come thick, do not listen for a moment
        """
        if gathers and self._is_thick:
            self._is_thick = False
            self._loop.remove_reader(self._fd)
            self._listens_again = self._loop.call_later(GATHER_S, self._listen)
        net_s = at_rest_s if self._has_told else NET_S
        timer = self._loop.call_later(POLL_S if self._watch is None else net_s, self._changed.set)
        try:
            await self.wait()
        finally:
            timer.cancel()

    async def wait(self) -> None:
        """Returns after `set()`, or after a change of the file."""
        await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        """Ends the watch."""
        if self._listens_again:
            self._listens_again.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _has_inotify(self) -> bool:
        """Tries again with each file: instances that were used up may have come free."""
        if self._fd < 0:
            try:
                self._fd = self._open_inotify()
            except OSError:
                return False
            self._listen()
        return True

    def _listen(self) -> None:
        self._loop.add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        try:
            events = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        # the end of the watch before is an event too
        self._has_told |= any(watch == self._watch for watch, *_ in EVENT.iter_unpack(events))
        self._changed.set()
        told_before_s, self._told_s = self._told_s, self._loop.time()
        self._is_thick = self._told_s - told_before_s < 2 * GATHER_S


def open_inotify() -> int:
    """A new inotify descriptor. Raises OSError when the kernel has none for us (128 per user by default)."""
    fd = int(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
