"""Guards that a slow, stuck or closed stdout never holds the daemon (contract, promise 4)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs.meaning.classify import classify
from arasul_supervisor.logs.ring import LogBlock
from arasul_supervisor.logs.stdout import StdoutWriter, is_journal
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMIT_S = 10.0


class Pipe:
    """A real pipe, of the kernel's smallest size."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, 4096)

    def close_reader(self) -> None:
        os.close(self.read_fd)
        self.read_fd = -1

    def read_until(self, is_enough: Callable[[bytes], bool]) -> bytes:
        read = b""
        while not is_enough(read):
            part = os.read(self.read_fd, 65536)
            assert part, read[-200:]
            read += part
        return read

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_arrive_in_order(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    for n in range(100):
        writer.write(f"line {n}")
    read = pipe.read_until(lambda read: read.count(b"\n") == 100)
    writer.close(timeout_s=LIMIT_S)
    assert read.decode().splitlines() == [f"line {n}" for n in range(100)]


def test_a_full_pipe_holds_nobody_and_the_dropped_lines_are_said_when_it_is_read(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd, limit_bytes=10_000)
    began = time.monotonic()
    for _ in range(5_000):
        writer.write("x" * 99)
    took_s = time.monotonic() - began
    assert took_s < 2.0
    assert writer.dropped_lines > 4_000
    pipe.read_until(lambda read: _noted_lines(read) == writer.dropped_lines)
    pipe.close_reader()
    writer.close(timeout_s=LIMIT_S)


def _noted_lines(read: bytes) -> int:
    notes = [json.loads(line) for line in read.split(b"\n")[:-1] if line.startswith(b"{")]
    return sum(note["lines"] for note in notes)


def test_what_was_dropped_is_said_soon_after_the_reader_is_back_though_no_line_follows(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd, limit_bytes=10_000)
    writer.write("x" * 9_000)  # larger than the pipe: its writer sits there
    writer.write("y" * 9_000)
    read = pipe.read_until(lambda read: _noted_lines(read) == 1)
    writer.close(timeout_s=LIMIT_S)
    assert read.startswith(b"x" * 9_000 + b"\n{")
    assert writer.dropped_lines == 1


def test_what_the_caller_keeps_back_is_said_though_no_line_follows(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    writer.write("a line")
    pipe.read_until(lambda read: read == b"a line\n")
    time.sleep(
        0.2
    )  # its thread waits for a line without a limit by now; if not, the test is only less strict
    writer.write_engine(LogBlock(0, 0.0, 3, b"x\n" * 7, 7, {}), only_telling=True)
    note = pipe.read_until(lambda read: read.endswith(b"\n"))
    writer.close(timeout_s=LIMIT_S)
    assert _noted_lines(note) == 7


def test_what_was_dropped_is_said_at_the_end(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    writer.write("a line")
    pipe.read_until(lambda read: read == b"a line\n")
    writer.write_engine(LogBlock(0, 0.0, 3, b"x\n" * 7, 7, {}), only_telling=True)
    writer.close(timeout_s=LIMIT_S)  # sooner than the second after which it is said anyway
    os.set_blocking(pipe.read_fd, False)
    assert _noted_lines(os.read(pipe.read_fd, 4096)) == 7


def test_a_new_reader_of_a_fifo_hears_what_was_dropped_before_it_came(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first_reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_fd = os.open(fifo, os.O_WRONLY)
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=write_fd)
    os.close(first_reader)
    writer.write("nobody reads this")
    wait_until(lambda: writer.dropped_lines == 1, limit_s=LIMIT_S, what="the line is dropped")
    with fifo.open("rb", buffering=0) as reader:
        note = reader.readline()
    writer.close(timeout_s=LIMIT_S)
    os.close(write_fd)
    assert _noted_lines(note) == 1
    assert writer.dropped_lines == 1


def test_on_a_full_disk_a_cut_line_gets_an_end_before_the_note(small_disk: Path) -> None:
    with (small_disk / "out").open("wb") as out:
        writer = StdoutWriter(log_format="console", clock=SystemClock(), fd=out.fileno())
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        file.write(bytes(60 * 1024))
    writer.write("x" * 9_000)
    wait_until(lambda: writer.dropped_lines == 1, limit_s=LIMIT_S, what="the disk is full")
    ballast.unlink()
    wait_until(
        lambda: b"lines dropped" in (small_disk / "out").read_bytes(), limit_s=LIMIT_S, what="the note"
    )
    writer.write("next")
    writer.close(timeout_s=LIMIT_S)
    cut, note, last = (small_disk / "out").read_bytes().splitlines()
    assert (cut.strip(b"x"), note, last) == (
        b"",
        b"arasul-supervisor: 1 lines dropped: stdout was not read fast enough",
        b"next",
    )


def test_closing_waits_no_longer_than_told_for_a_reader_that_does_not_read() -> None:
    code = (
        "import os, time\n"
        "from arasul_supervisor.clock import SystemClock\n"
        "from arasul_supervisor.logs.stdout import StdoutWriter\n"
        "read_fd, write_fd = os.pipe()\n"
        "writer = StdoutWriter(log_format='json', clock=SystemClock(), fd=write_fd)\n"
        "for _ in range(5000): writer.write('x' * 99)\n"
        "began = time.monotonic()\n"
        "writer.close(timeout_s=0.2)\n"
        "print(time.monotonic() - began)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    assert 0.1 < float(done.stdout) < 3.0


def test_a_reader_that_went_away_is_borne(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    pipe.close_reader()
    for _ in range(1_000):
        writer.write("x")
    end = time.monotonic() + LIMIT_S
    while writer.dropped_lines < 1_000 and time.monotonic() < end:
        time.sleep(0.005)
    writer.close(timeout_s=LIMIT_S)
    assert writer.dropped_lines == 1_000


def test_a_stdout_that_was_closed_before_the_start_is_borne() -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=999)
    writer.write("x")
    writer.close(timeout_s=LIMIT_S)
    assert writer.dropped_lines == 1


def test_a_descriptor_that_is_closed_and_used_anew_is_not_written_to(pipe: Pipe) -> None:
    other = Pipe()
    fd = os.dup(pipe.write_fd)
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=fd)
    os.dup2(other.write_fd, fd)
    writer.write("x")
    read = pipe.read_until(lambda read: read.endswith(b"\n"))
    writer.close(timeout_s=LIMIT_S)
    os.close(fd)
    other.close()
    assert read == b"x\n"


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_fd, False)
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    for n in range(500):
        writer.write(f"{n:099d}")
    read = pipe.read_until(lambda read: read.count(b"\n") == 500)
    writer.close(timeout_s=LIMIT_S)
    assert [int(line) for line in read.split()] == list(range(500))


def test_an_engine_line_is_an_object_of_its_own_in_json(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    writer.write_engine(LogBlock(0, 0.0, 3, b'Error: "x"\n\xff\n', 2, {}))
    read = pipe.read_until(lambda read: read.count(b"\n") == 2)
    writer.close(timeout_s=LIMIT_S)
    first, second = (json.loads(line) for line in read.splitlines())
    assert first == {
        "at": "1970-01-01T00:00:00.000Z",
        "source": "ollama",
        "generation": 3,
        "level": "error",
        "event": "engine_line",
        "text": 'Error: "x"',
    }
    assert second["text"] == "\ufffd"


def test_an_engine_line_that_tells_of_an_outcome_names_it(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="json", clock=SystemClock(), fd=pipe.write_fd)
    writer.write_engine(telling_block())
    read = pipe.read_until(lambda read: read.count(b"\n") == 2)
    writer.close(timeout_s=LIMIT_S)
    assert [json.loads(line).get("outcome") for line in read.splitlines()] == [None, "panic"]


@pytest.mark.parametrize(
    ("only_telling", "limit_bytes"),
    [pytest.param(True, 1024, id="in a flood"), pytest.param(False, 0, id="without room")],
)
def test_what_means_something_is_passed_on_when_the_rest_is_not(
    pipe: Pipe, *, only_telling: bool, limit_bytes: int
) -> None:
    writer = StdoutWriter(
        log_format="console", clock=SystemClock(), fd=pipe.write_fd, limit_bytes=limit_bytes
    )
    writer.write_engine(telling_block(), only_telling=only_telling)
    read = pipe.read_until(lambda read: read.count(b"\n") == 2)
    writer.close(timeout_s=LIMIT_S)
    assert read.splitlines()[0] == b"ollama | panic: x"
    assert writer.dropped_lines == 1


def test_an_engine_line_has_a_prefix_on_the_console(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="console", clock=SystemClock(), fd=pipe.write_fd)
    writer.write_engine(LogBlock(0, 0.0, 3, b"a\n\nb\n", 3, {}))
    read = pipe.read_until(lambda read: read.count(b"\n") == 3)
    writer.close(timeout_s=LIMIT_S)
    assert read == b"ollama | a\nollama | \nollama | b\n"


def test_in_the_journal_every_line_begins_with_its_priority(pipe: Pipe) -> None:
    writer = StdoutWriter(log_format="console", clock=SystemClock(), fd=pipe.write_fd, has_priorities=True)
    writer.write("it failed\n  in line 3", "error")
    writer.write_engine(telling_block())
    read = pipe.read_until(lambda read: read.count(b"\n") == 4)
    writer.close(timeout_s=LIMIT_S)
    assert read.decode().splitlines() == [
        "<3>it failed",
        "<3>  in line 3",
        "<6>ollama | all is well",
        "<3>ollama | panic: x",
    ]


def test_stdout_is_the_journal_when_systemd_names_its_inode(pipe: Pipe) -> None:
    seen = os.fstat(pipe.write_fd)
    assert is_journal({"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}, pipe.write_fd)


@pytest.mark.parametrize("stream", [None, "", "8:1", "garbage"])
def test_another_stdout_than_the_one_that_systemd_names_is_no_journal(pipe: Pipe, stream: str | None) -> None:
    environ = {} if stream is None else {"JOURNAL_STREAM": stream}
    assert not is_journal(environ, pipe.write_fd)


def telling_block() -> LogBlock:
    """A line that means nothing, and one that does."""
    match = classify("panic: x")
    assert match is not None
    return LogBlock(0, 0.0, 1, b"all is well\npanic: x\n", 2, {1: match})
