"""Signals to exactly the processes that were looked at: through a pidfd, after their start has been read again."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.process_stat import stat_of
from arasul_supervisor.supervision.strays import is_gone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from arasul_supervisor.supervision.process_looks import Identity


@dataclass(frozen=True, slots=True)
class Ends:
    """What became of processes that were to be ended: `killed` by us and dead, or `gone_before`."""

    killed: frozenset[Identity]
    gone_before: frozenset[Identity]


def end_processes(identities: Collection[Identity], *, bound_s: float) -> Ends:
    """SIGKILL these and wait until they are dead. What sleeps in the kernel (state D) is in neither part of the answer.

    SIGKILL, for a busy runner takes SIGTERM only after 30 s (facts/ollama.md §2.2). Blocks for up to `bound_s`
    seconds: call it in a thread.
    """
    deadline = time.monotonic() + bound_s
    with _held(identities) as held:
        signalled = _signal(held, signal.SIGKILL)
        killed = {identity for identity in signalled if is_gone(held[identity], deadline)}
        gone_before = {
            identity for identity in identities if identity not in signalled and not _lives(identity)
        }
    return Ends(frozenset(killed), frozenset(gone_before))


def continue_processes(identities: Collection[Identity]) -> frozenset[Identity]:
    """SIGCONT to these; those that were there to get it."""
    with _held(identities) as held:
        return _signal(held, signal.SIGCONT)


@contextmanager
def _held(identities: Collection[Identity]) -> Iterator[dict[Identity, int]]:
    """A pidfd of each that lives. It is opened first: whatever has the number from then on is what it stands for."""
    held: dict[Identity, int] = {}
    try:
        for identity in identities:
            try:
                held[identity] = os.pidfd_open(identity[0])
            except OSError:  # gone, or no descriptor left
                continue
        yield {identity: pidfd for identity, pidfd in held.items() if _lives(identity)}
    finally:
        for pidfd in held.values():
            os.close(pidfd)


def _lives(identity: Identity) -> bool:
    stat = stat_of(identity[0])
    return stat is not None and stat.start_ticks == identity[1] and not stat.is_exiting


def _signal(held: dict[Identity, int], number: signal.Signals) -> frozenset[Identity]:
    reached = set()
    for identity, pidfd in held.items():
        try:
            signal.pidfd_send_signal(pidfd, number)
        except (ProcessLookupError, PermissionError):  # it has just ended, or it is not ours to signal
            continue
        reached.add(identity)
    return frozenset(reached)
