"""The daemon under measurement: the whole program over the fake engine, and what is watched of it meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.engine.daemon import Daemon, DaemonFactory
from tests.engine.fake import FakeEngine, make_fake_engine
from tests.engine.processes import kill_all_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
MEMORY_PERIOD_S: Final = 0.05
OWN_LINE: Final = b'"source":"arasul"'
SHORT_S: Final = 0.02


@dataclass(slots=True)
class Subject:
    """A ready daemon. `output` is None where nobody reads its stdout."""

    daemon: Daemon
    engine: FakeEngine
    output: OutputReader | None

    def cpu_s(self) -> float:
        """Seconds of processor time of the daemon so far, all threads, those that have ended included."""
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def resident_bytes(self) -> int:
        """Resident memory of the daemon now, without its guardian."""
        return int(Path(f"/proc/{self.daemon.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def output_lines(self, event: str) -> list[dict[str, object]]:
        """The daemon's own lines of that event."""
        return self.output.own_lines(event) if self.output else []


class OutputReader:
    """Reads the daemon's stdout as fast as it comes, and keeps the daemon's own lines and those that are asked for."""

    def __init__(self, fd: int, *, kept: bytes) -> None:
        """Begin to read.

        :param kept: a text; each line that holds it is kept with the instant at which it was read
        """
        self._fd = fd
        self._kept = kept
        self._own: list[bytes] = []
        self.kept_lines: list[tuple[int, bytes]] = []
        self.n_bytes = 0
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def own_lines(self, event: str) -> list[dict[str, object]]:
        """The daemon's own lines of that event, parsed."""
        parsed = (json.loads(line) for line in list(self._own) if event.encode() in line)
        return [line for line in parsed if line["event"] == event]

    def close(self) -> None:
        """Return when the daemon has closed its end."""
        self._thread.join()
        os.close(self._fd)

    def _run(self) -> None:
        rest = b""
        while chunk := os.read(self._fd, 1 << 20):
            now_ns = time.monotonic_ns()
            self.n_bytes += len(chunk)
            block, newline, rest = (rest + chunk).rpartition(b"\n")
            if not newline:
                continue
            if self._kept in block or OWN_LINE in block:
                self._sort(block, now_ns)

    def _sort(self, block: bytes, now_ns: int) -> None:
        for line in block.split(b"\n"):
            if OWN_LINE in line:
                self._own.append(line)
            elif self._kept in line:
                self.kept_lines.append((now_ns, line))


@dataclass(slots=True)
class MemoryWatch:
    """Samples the resident memory while it is entered. `samples`: bytes."""

    subject: Subject
    samples: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sample until the block ends."""
        thread = threading.Thread(target=self._run, name="memory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(MEMORY_PERIOD_S):
            self.samples.append(self.subject.resident_bytes())


@contextmanager
def ready_daemon(
    *,
    is_read: bool = False,
    kept: bytes = b"",
    core: int | None = None,
    engine_program: Path | None = None,
    models: Path | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Iterator[Subject]:
    """A daemon in a folder of its own, ready and settled; at the end nothing of it is left.

    :param is_read: its stdout is a pipe that is read, else /dev/null
    :param kept: see `OutputReader`
    :param core: the one core on which it may run; its engine runs where the caller may
    :param engine_program: another engine in place of the fake one
    :param models: its model store, an empty one otherwise
    :param env: variables that win over all others
    """
    under = ("taskset", "--cpu-list", str(core)) if core is not None else ()
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder:
        engine = make_fake_engine(Path(folder, "fake"))
        daemon = DaemonFactory(Path(folder), engine).prepare(
            engine=engine_program, models=models, env=env, under=under
        )
        read_end, write_end = os.pipe()
        with open(os.devnull, "wb") as nobody:
            _spawn(daemon, write_end if is_read else nobody.fileno())
        os.close(write_end)
        output = OutputReader(read_end, kept=kept)
        try:
            daemon.wait_ready()
            wait_for(lambda: daemon.get("/health").status != 503, what="/health is 200")
            for thread in os.listdir(f"/proc/{daemon.process()['pid']}/task"):
                with suppress(ProcessLookupError):
                    # it was born on the daemon's core
                    os.sched_setaffinity(int(thread), os.sched_getaffinity(0))
            time.sleep(1.0)  # the imports of the start have been paid
            yield Subject(daemon, engine, output if is_read else None)
        finally:
            daemon.stop()
            output.close()
            left = daemon.survivors()
            kill_all_with(daemon.marker)
            assert not left, f"left alive: {left}"


@contextmanager
def health_probe(
    port: int, *, path: str = "/health", period_s: float = 0.02
) -> Iterator[list[tuple[int, int, int]]]:
    """Probes that path meanwhile; the list is filled when the block ends (see `health_probe.py` for its items)."""
    seen: list[tuple[int, int, int]] = []
    command = [sys.executable, "-m", "bench.health_probe", str(port), path, str(period_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probe:
        try:
            yield seen
        finally:
            said, _ = probe.communicate(b"")
            seen.extend(json.loads(said))


def wait_for(condition: Callable[[], bool], *, what: str, limit_s: float = 30.0) -> None:
    """Return when the condition holds, looked at every 10 ms.

    :raises TimeoutError: it did not hold in time
    """
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.01)


def _spawn(daemon: Daemon, stdout: int) -> None:
    with (daemon.folder / "daemon.err").open("ab") as errors:
        daemon.popen = subprocess.Popen(
            [*daemon.under, sys.executable, "-m", "arasul_supervisor", *daemon.arguments],
            cwd=daemon.folder,
            env=daemon.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=errors,
        )
    daemon.is_started = True
