"""Looks at processes through /proc, without a signal, a question or a lock that a hanging driver may hold.

Everything here blocks for as long as /proc does: call it in a thread.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from arasul_supervisor.supervision.init import children_of_self
from arasul_supervisor.supervision.process_looks import ProcessLook, RunnerProcess
from arasul_supervisor.supervision.process_stat import ProcessStat, is_below, read_stat
from arasul_supervisor.supervision.strays import carries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from arasul_supervisor.supervision.process_looks import Identity

_MOVED: Final = re.compile(rb"^(?:rchar|wchar|read_bytes|write_bytes): (\d+)$", re.MULTILINE)
_BLOB: Final = re.compile(rb".*/sha256-([0-9a-f]{64})")
_RUNS, _STANDS_WHOLE = "R", "T"
_FEW_BYTES: Final = 4096
_MANY_BYTES: Final = 128 * 1024

_Program = tuple[int, int, str]
"""Pid, start and name: a process that executes another program keeps the first two."""


class RunnerArguments(NamedTuple):
    """What a runner was started with: its port, and its weights `sha256:<64 hex>`; None where it names no blob."""

    port: int | None
    blob: str | None


def look_at_process(pid: int, *, is_glance: bool = False) -> ProcessLook | None:
    """What it does now; None when it is gone, or ends and only waits to be reaped.

    :param is_glance: not at its threads, most of the cost: `is_runnable` tells of the main one alone
    :raises OSError: no descriptor is left
    """
    stat = read_stat(pid)
    return None if stat is None or stat.is_exiting else _look(pid, stat, is_glance=is_glance)


class RunnerReader:
    """Finds the model runners. What a process can be asked only through a lock, it is asked once.

    Belongs to one thread. A look costs 0.8 ms for two runners of 12 threads each, and 14 µs for each thread more; a
    glance at those that rest a third of it.
    """

    def __init__(self, *, is_owned: Callable[[int], bool] = lambda _pid: False) -> None:
        """Know nothing yet.

        :param is_owned: true for a child that somebody here started on purpose: it is no orphan, and left alone
        """
        self._is_owned = is_owned
        self._argv: dict[_Program, RunnerArguments | None] = {}
        self._is_marked: dict[Identity, bool] = {}
        self._known: frozenset[Identity] = frozenset()
        self._at_rest: Collection[Identity] = ()

    def read(
        self, engine_pid: int, marker: str, *, at_rest: Collection[Identity] = ()
    ) -> tuple[RunnerProcess, ...]:
        """Every runner below the engine from its exec on, and those that have lost it: the orphans.

        An orphan is a child of ours, or has been below the engine, and carries our marker. What ends is left out.

        :param engine_pid: 0 when there is none: then every runner is an orphan
        :param marker: beginning of the marker that all of ours carry, see strays.py
        :param at_rest: nobody waits for these: a glance will do
        :raises OSError: no descriptor is left
        """
        self._at_rest = at_rest
        former, self._argv = self._argv, {}
        below = {look.process.identity: look for look in self._below(engine_pid, former)}
        adopted = (pid for pid in children_of_self() if pid != engine_pid and not self._is_owned(pid))
        for pid in {*adopted, *(pid for pid, _ in self._known)}.difference(pid for pid, _ in below):
            found = self._look_at_other(pid, engine_pid, marker, former)
            if found is not None:
                below[found.process.identity] = found
        self._known = frozenset(below)
        self._is_marked = {
            identity: is_ours for identity, is_ours in self._is_marked.items() if identity in below
        }
        return tuple(below.values())

    def _below(self, pid: int, former: dict[_Program, RunnerArguments | None]) -> Iterator[RunnerProcess]:
        for child in children_of(pid):
            stat = read_stat(child)
            if stat is None or stat.is_exiting:
                continue
            argv = self._argv_of(child, stat, former)
            # A script around llama-server carries the same arguments, in one thread: the runner is what it started.
            inner = [] if argv is not None and stat.threads > 1 else [*self._below(child, former)]
            yield from inner
            if argv is not None and not inner:
                yield RunnerProcess(self._look(child, stat), *argv)

    def _look_at_other(
        self, pid: int, engine_pid: int, marker: str, former: dict[_Program, RunnerArguments | None]
    ) -> RunnerProcess | None:
        """A runner that the lists of children did not show: an orphan, or one that they left out.

        The kernel promises whole lists only of frozen processes.
        """
        stat = read_stat(pid)
        if stat is None or stat.is_exiting:
            return None
        argv = self._argv_of(pid, stat, former)
        if argv is None:
            return None
        identity = (pid, stat.start_ticks)
        if is_below(pid, engine_pid):
            return RunnerProcess(self._look(pid, stat), *argv) if identity in self._known else None
        if identity not in self._is_marked:
            self._is_marked[identity] = carries(pid, marker)
        if not self._is_marked[identity]:
            return None
        return RunnerProcess(self._look(pid, stat), *argv, is_orphan=True)

    def _look(self, pid: int, stat: ProcessStat) -> ProcessLook:
        return _look(pid, stat, is_glance=(pid, stat.start_ticks) in self._at_rest)

    def _argv_of(
        self, pid: int, stat: ProcessStat, former: dict[_Program, RunnerArguments | None]
    ) -> RunnerArguments | None:
        """Port and weights of a runner; None for another process, and for one that has yet to execute its program."""
        if stat.is_copy:
            return None
        program = (pid, stat.start_ticks, stat.command)
        if program not in self._argv and program in former:
            self._argv[program] = former[program]
        elif program not in self._argv:
            argv = argv_of(pid)
            if not argv[0]:  # in the middle of its exec: the name is there before the arguments
                return None
            self._argv[program] = runner_arguments(argv)
        return self._argv[program]


def _look(pid: int, stat: ProcessStat, *, is_glance: bool) -> ProcessLook:
    moved = [int(figure) for figure in _MOVED.findall(_read(f"/proc/{pid}/io") or b"")]
    waits_on = (_read(f"/proc/{pid}/wchan") or b"").decode("ascii", "replace")
    return ProcessLook(
        identity=(pid, stat.start_ticks),
        state=stat.state,
        cpu_ticks=stat.cpu_ticks,
        major_faults=stat.major_faults,
        moved_bytes=sum(moved) if moved else None,
        is_runnable=stat.state == _RUNS if is_glance else _is_runnable(pid, stat.state),
        waits_on="" if waits_on == "0" else waits_on,
    )


def _is_runnable(pid: int, state: str) -> bool:
    """True when a thread runs or could. The others are looked at only where the main thread does not tell."""
    if state in (_RUNS, _STANDS_WHOLE):
        return state == _RUNS
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return False
    return any(_state_of_thread(pid, thread) == b"R" for thread in threads)


def _state_of_thread(pid: int, thread: str) -> bytes:
    """Its letter in `4243 (a name) S 17 …`; empty when it is gone."""
    text = _read(f"/proc/{pid}/task/{thread}/stat") or b""
    return text.rpartition(b") ")[2][:1]


def children_of(pid: int) -> list[int]:
    """Pids of its children; none of a process that is gone.

    :raises OSError: no descriptor is left
    """
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for thread in threads:
        found += map(int, (_read(f"/proc/{pid}/task/{thread}/children", is_paged=True) or b"").split())
    return found


def runner_arguments(argv: list[bytes]) -> RunnerArguments | None:
    """Those of a runner; None for another process, a discovery of devices included. Pure.

    `llama-server --model <store>/blobs/sha256-<64 hex> --port 40123 …`, `ollama runner --model … --port …`,
    `ollama runner --mlx-engine --model <name> --port …`."""
    model = _value_of(b"--model", argv)
    if model is None:
        return None
    port, blob = _value_of(b"--port", argv) or b"", _BLOB.fullmatch(model)
    return RunnerArguments(
        int(port) if port.isdigit() else None, f"sha256:{blob[1].decode()}" if blob else None
    )


def _value_of(option: bytes, argv: list[bytes]) -> bytes | None:
    return argv[argv.index(option) + 1] if option in argv[:-1] else None


def argv_of(pid: int) -> list[bytes]:
    """Its arguments; `[b""]` of a process that is gone, that has begun to exit, or that is in the middle of its exec.

    Read through a lock that a driver may hold.

    :raises OSError: no descriptor is left
    """
    return (_read(f"/proc/{pid}/cmdline", _MANY_BYTES) or b"").removesuffix(b"\0").split(b"\0")


def _read(path: str, limit_bytes: int = _FEW_BYTES, *, is_paged: bool = False) -> bytes | None:
    """The beginning of the file; None when it is not ours to see, or its process is gone.

    :param is_paged: all of it: a list, which the kernel gives a page at a time, whatever room there is (seq_file.c)

    :raises OSError: no descriptor is left
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    try:
        found = os.read(fd, limit_bytes)
        while is_paged and (part := os.read(fd, limit_bytes)):
            found += part
        return found
    except (ProcessLookupError, PermissionError):
        return None
    finally:
        os.close(fd)
