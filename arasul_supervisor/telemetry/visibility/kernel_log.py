"""The driver's error reports (Xid) in the kernel's log, where it may be read. Never waits for a line to come."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_RECORDS: Final = 200_000
_RECORD_BYTES: Final = 8192  # the kernel refuses a smaller buffer than its longest record
_JOURNAL: Final = (
    "journalctl",
    "--dmesg",
    "--boot",
    "--output=short-monotonic",
    "--no-pager",
    "--lines=20000",
)
# `NVRM: Xid (PCI:0000:65:00): 79, pid=1234, GPU has fallen off the bus.` after `4,2590,9147031144,-;` of /dev/kmsg, or
# after `[ 9147.031144] host kernel:` of journalctl
_XID: Final = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d{1,4})\b")
_KMSG: Final = re.compile(r"\d+,\d+,(\d+),")
_SECONDS: Final = re.compile(r"\[\s*(\d+)\.\d+\]")


@dataclass(frozen=True, slots=True)
class Xid:
    """One report: its number, the card's address, and how long ago in seconds; None when that is not known."""

    number: int
    address: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class KernelLog:
    """The reports that the log still holds, oldest first; `problem` says why there is no line of it to be read."""

    xids: tuple[Xid, ...] = ()
    problem: str = ""


def read_kernel_log(root: Path, *, journal: Sequence[str] = _JOURNAL, timeout_s: float = 2.0) -> KernelLog:
    """The log below `root`; of the running machine also through the journal."""
    uptime_s = _uptime_s(root)
    records = _Counted(_records(root / "dev/kmsg"))
    try:
        xids = tuple(parse_xids(records, uptime_s))
    except OSError as problem:
        sentence = f"/dev/kmsg: {problem.strerror or problem}"
    else:
        if records.count:
            return KernelLog(xids)
        sentence = "/dev/kmsg holds no line"  # a container's may be a link to /dev/null, or a FIFO
    if root != Path("/"):
        return KernelLog(problem=sentence)
    log = read_journal(journal, uptime_s, timeout_s=timeout_s)
    return KernelLog(problem=f"{sentence}; {log.problem}") if log.problem else log


def read_journal(command: Sequence[str], uptime_s: float | None, *, timeout_s: float) -> KernelLog:
    """What `command`, a journalctl, shows of the kernel's log."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError) as problem:
        return KernelLog(problem=f"{command[0]}: {_reason(problem)}")
    # `-- No entries --`, and `-- Journal begins at …` of older ones, are journalctl's own
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("-- ")]
    if not lines:
        return KernelLog(problem=f"{command[0]} shows no line of the kernel")
    return KernelLog(tuple(parse_xids(lines, uptime_s)))


def parse_xids(lines: Iterable[str], uptime_s: float | None) -> Iterator[Xid]:
    """The reports among these lines. Pure."""
    for line in lines:
        found = _XID.search(line)
        if found is None:
            continue
        kmsg, seconds = _KMSG.match(line), _SECONDS.search(line)
        logged_s = int(kmsg[1]) / 1e6 if kmsg else float(seconds[1]) if seconds else None
        age_s = None if logged_s is None or uptime_s is None else max(0.0, uptime_s - logged_s)
        yield Xid(int(found[2]), found[1], age_s)


class _Counted:
    """Lines that are counted as they go by: a log of none is no quiet log."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line


def _records(path: Path) -> Iterator[str]:
    """What is in the ring now. One read gives one record; what was overwritten meanwhile gives EPIPE once."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    rest = ""
    try:
        for _ in range(_MOST_RECORDS):
            try:
                chunk = os.read(fd, _RECORD_BYTES)
            except OSError as problem:
                if problem.errno == errno.EPIPE:
                    continue
                if problem.errno == errno.EAGAIN:
                    return
                raise
            if not chunk:
                return
            *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
            yield from lines
    finally:
        os.close(fd)


def _uptime_s(root: Path) -> float | None:
    """`/proc/uptime`: `11416.87 22031.02`."""
    words = (read_text(root / "proc/uptime") or "").split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None


def _reason(problem: Exception) -> str:
    if isinstance(problem, subprocess.TimeoutExpired):
        return f"no answer within {problem.timeout:g} s"
    if isinstance(problem, subprocess.CalledProcessError):
        said = (problem.stderr or "").strip().splitlines()
        return said[0] if said else f"exit code {problem.returncode}"
    return getattr(problem, "strerror", None) or str(problem)
