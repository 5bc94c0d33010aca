"""Whether the kernel's out-of-memory killer was at work: counters of our control group, else of the whole box.

An exit status cannot tell it from any other SIGKILL (facts: Linux `mm/oom_kill.c` counts before it sends the
signal, so at a death the counter has already risen).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision.runners import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_BYTES: Final = 16 * 1024
_FOR_CHILDREN: Final = 500
"""Of 1,000: as if half of the memory were in use. What holds the models goes before what watches them."""


@dataclass(frozen=True, slots=True)
class CounterFile:
    """A file with a line `oom_kill N`, and the folder of its control group; None: it counts for the whole box."""

    path: str
    group: str | None


class OomCounter:
    """The number of processes that the OOM killer has ended. The file stays open: a look costs 5 µs."""

    def __init__(self, sysroot: str = "") -> None:
        """Choose the narrowest counter that there is.

        :param sysroot: prefix of all paths, for tests
        """
        self._fd, self._group = -1, None
        for file in _counter_files(sysroot):
            try:
                fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if _count_in(fd) is not None:
                self._fd, self._group = fd, file.group
                break
            os.close(fd)
        self._seen = self._read()

    def rise(self) -> int:
        """How many were killed since the last call. 0 where the kernel does not count."""
        count = self._read()
        risen, self._seen = count - self._seen, count
        return max(0, risen)

    @property
    def is_for_the_box(self) -> bool:
        """True when no control group counts for us: a kill may be that of any process on the box."""
        return self._group is None

    def is_ours_alone(self) -> bool:
        """True when only we and our descendants are in the control group that is counted for."""
        if self._group is None:
            return False
        try:
            with open(f"{self._group}/cgroup.procs", encoding="ascii") as file:
                members = {int(line) for line in file}
        except (OSError, ValueError):
            return False
        return members <= {os.getpid(), *descendants(os.getpid())}

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> int:
        count = _count_in(self._fd) if self._fd >= 0 else None
        return 0 if count is None else count


def offer_to_oom_killer(pid: int) -> None:
    """Have the kernel take this process and what it will start before us when memory is short.

    :raises OSError: it is gone, or its score may not be changed
    """
    path = f"/proc/{pid}/oom_score_adj"
    with open(path, "r+", encoding="ascii") as file:
        if int(file.read()) < _FOR_CHILDREN:
            file.seek(0)
            file.write(str(_FOR_CHILDREN))


def _count_in(fd: int) -> int | None:
    """The number after `oom_kill ` in `memory.events` (v2), `memory.oom_control` (v1) or `/proc/vmstat`."""
    try:
        lines = os.pread(fd, _READ_BYTES, 0).split(b"\n")
    except OSError:
        return None
    for line in lines:
        name, _, number = line.partition(b" ")
        if name == b"oom_kill" and number.isdigit():
            return int(number)
    return None


def _counter_files(sysroot: str) -> Iterator[CounterFile]:
    """Where to look, the narrowest first."""
    groups = dict(_own_groups(f"{sysroot}/proc/self/cgroup"))
    for kind, root, mount in _cgroup_mounts(f"{sysroot}/proc/self/mountinfo"):
        path = groups.get(kind)
        if path is not None:
            below = os.path.relpath(path, root) if (path + "/").startswith(root.rstrip("/") + "/") else "."
            folder = os.path.normpath(f"{sysroot}{mount}/{below}")
            yield CounterFile(f"{folder}/{'memory.oom_control' if kind == 'v1' else 'memory.events'}", folder)
    yield CounterFile(f"{sysroot}/proc/vmstat", None)


def _own_groups(path: str) -> Iterator[tuple[str, str]]:
    """`0::/a/b` is the v2 group, `4:memory:/a/b` the v1 one that counts memory."""
    for line in _lines(path):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield "v2", group
        elif "memory" in controllers.split(","):
            yield "v1", group


def _cgroup_mounts(path: str) -> Iterator[tuple[str, str, str]]:
    """Kind, root within the hierarchy and mount point of each cgroup mount that may count memory.

    A line: `36 35 0:31 /docker/ab12 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory` (proc(5)).
    """
    for line in _lines(path):
        mount, _, system = line.partition(" - ")
        fields, kind = mount.split(" "), system.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield "v2", fields[3], fields[4]
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            yield "v1", fields[3], fields[4]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
