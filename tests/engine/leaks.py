"""What every test must leave as it was: children, file descriptors, threads, tasks, temporary files."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from blockbuster import BlockBuster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import FrameType

SETTLE_LIMIT_S = 2.0
PACKAGE = str(Path(__file__).parents[2] / "arasul_supervisor")
# their trade is small files on the local disk (lock, spool, notes), and starts that cannot wait for a thread
ROOMS_OF_LOCAL_FILES = tuple(os.path.join(PACKAGE, room) for room in ("supervision", "logs"))


@dataclass(frozen=True, slots=True)
class _Belongings:
    children: frozenset[tuple[int, str]]
    fds: frozenset[tuple[int, str]]
    threads: frozenset[str]
    files: frozenset[str]

    def beyond(self, former: _Belongings) -> dict[str, list[str]]:
        """What is here and was not before."""
        pairs = {
            "child processes": [f"{pid} {command}" for pid, command in self.children - former.children],
            "file descriptors": [f"{fd} -> {target}" for fd, target in self.fds - former.fds],
            "threads": list(self.threads - former.threads),
            "temporary files": list(self.files - former.files),
        }
        return {what: left for what, left in pairs.items() if left}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor, a thread or a temporary file of ours."""
    before = _look()
    yield
    end = time.monotonic() + SETTLE_LIMIT_S
    left = _look().beyond(before)
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
        left = _look().beyond(before)
    if left:
        pytest.fail(
            "the test left behind: " + "; ".join(f"{what}: {', '.join(of)}" for what, of in left.items())
        )


@pytest_asyncio.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail an async test that leaves a task; given to every async test by conftest.py."""
    before = asyncio.all_tasks()
    yield
    left = _other_tasks() - before
    end = time.monotonic() + SETTLE_LIMIT_S
    while left and time.monotonic() < end:
        await asyncio.sleep(0.01)
        left = _other_tasks() - before
    if left:
        pytest.fail(f"the test left tasks behind: {', '.join(sorted(map(repr, left)))}")


@pytest.fixture
def nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Raise where our package blocks the loop of an async test; given to every one by conftest.py.

    Files under /proc may be read anywhere, local files in the rooms whose trade they are; `time.sleep`,
    blocking sockets, taken locks and all other files are errors wherever our code is on the stack.
    """
    if request.node.get_closest_marker("blocking"):
        yield
        return
    detector = BlockBuster("arasul_supervisor")
    for name, function in detector.functions.items():
        if name.startswith(("os.", "io.")):
            function.can_block_predicate = _or_harmless(function.can_block_predicate)
        elif name.startswith("threading."):
            # before 7.17 coverage takes a lock of its own, in Python, below whatever line of ours comes next
            function.can_block_in("coverage/collector.py", "lock_data")
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()


def _or_harmless(predicate: Callable[..., bool]) -> Callable[..., bool]:
    def may_block(*args: object, **kwargs: object) -> bool:
        return (
            predicate(*args, **kwargs) or _is_proc(args[0] if args else None) or _is_in_room_of_local_files()
        )

    return may_block


def _is_proc(what: object) -> bool:
    name = getattr(what, "name", what)
    if isinstance(name, int):
        try:
            name = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            return False
    return isinstance(name, str | bytes | os.PathLike) and os.fspath(name)[:5] in ("/proc", b"/proc")


def _is_in_room_of_local_files() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(ROOMS_OF_LOCAL_FILES)


def _other_tasks() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _look() -> _Belongings:
    return _Belongings(frozenset(_children()), frozenset(_fds()), frozenset(_threads()), frozenset(_files()))


def _children() -> Iterator[tuple[int, str]]:
    for task in os.listdir("/proc/self/task"):
        try:
            pids = Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:
            continue
        for pid in pids:
            yield int(pid), _command(pid)


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return "(gone)"


def _fds() -> Iterator[tuple[int, str]]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        # what coverage, pytest and Hypothesis open when they first need it
        if not target.startswith("/dev/urandom") and ".hypothesis" not in target:
            yield int(fd), target


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            yield f"{thread.name} ({thread.ident})"


def _files() -> Iterator[str]:
    folder = tempfile.gettempdir()
    return (
        os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(("arasul", ".arasul"))
    )
