"""Guards promise 4: a restart of the daemon, by SIGKILL too, neither loses nor doubles a line of the engine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.resume import NOWHERE, Position, PublicPart, SpoolNote, note_path, resume_position
from arasul_supervisor.logs.spool import SpoolFolder
from tests.engine.daemon import REPOSITORY
from tests.engine.log_ground import append
from tests.engine.processes import wait_until
from tests.engine.public_log_files import whole_log

if TYPE_CHECKING:
    import random

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine

COPIER = Path(__file__).parents[1] / "engine" / "log_copier.py"
BEFORE, AFTER = Position(1000), Position(9000, 0, 1)
PART = PublicPart(device=1, inode=2, size=500, done=0, length=8000, total=8000)


def test_without_a_note_a_spool_is_read_from_its_beginning(tmp_path: Path) -> None:
    assert resume_position(tmp_path / "engine-x-1.log", {}) == (Position(), 0)


@pytest.mark.parametrize(
    ("part", "size", "goes_on"),
    [
        pytest.param(PART, 500, (BEFORE, 0), id="killed before the write"),
        pytest.param(PART, 8500, (AFTER, 0), id="killed after the write"),
        pytest.param(PART, 4500, (BEFORE, 4000), id="killed within the write"),
        pytest.param(PART, 100, (AFTER, 0), id="truncated by an operator since"),
        pytest.param(PublicPart(1, 2, 0, 3000, 5000, 8000), 0, (BEFORE, 3000), id="killed after a rotation"),
        pytest.param(PublicPart(1, 2, 0, 3000, 5000, 8000), 5000, (AFTER, 0), id="all parts were written"),
    ],
)
def test_the_size_of_the_public_file_tells_how_far_a_write_came(
    tmp_path: Path, part: PublicPart, size: int, goes_on: tuple[Position, int]
) -> None:
    note(tmp_path / "spool", part)
    assert resume_position(tmp_path / "spool", {(1, 2): size, (1, 3): 7}) == goes_on


def test_a_public_file_that_is_gone_was_written_before_it_went(tmp_path: Path) -> None:
    note(tmp_path / "spool", PART)
    assert resume_position(tmp_path / "spool", {(1, 3): 7}) == (AFTER, 0)


@pytest.mark.parametrize("text", ["", "1 2 3", "a b c d e f g h i j k l", "1 " * 40, "\x00" * 192])
def test_a_note_that_cannot_be_read_is_no_note(tmp_path: Path, text: str) -> None:
    note_path(tmp_path / "spool").write_text(text)
    assert resume_position(tmp_path / "spool", {}) == (Position(), 0)


def test_a_newer_note_takes_the_place_of_the_older(tmp_path: Path) -> None:
    note(tmp_path / "spool", PART)
    noted = SpoolNote(tmp_path / "spool")
    noted.write(Position(10**12), Position(10**12 + 5), PART)
    noted.write(BEFORE, AFTER, PART)
    noted.close()
    assert resume_position(tmp_path / "spool", {(1, 2): 500}) == (BEFORE, 0)


@pytest.mark.parametrize("size", [0, 8999], ids=["empty", "with new lines"])
def test_a_spool_that_was_emptied_after_it_was_copied_is_read_from_its_beginning(
    tmp_path: Path, size: int
) -> None:
    note(tmp_path / "spool", PART)
    os.truncate(tmp_path / "spool", size)
    assert resume_position(tmp_path / "spool", {(1, 2): 8500}) == (Position(0, 0, 1), 0)


def test_a_spool_that_was_emptied_by_us_and_filled_again_is_read_from_its_beginning(tmp_path: Path) -> None:
    noted = SpoolNote(tmp_path / "spool")
    noted.write(BEFORE, AFTER, PART)
    noted.begin_anew()
    noted.close()
    (tmp_path / "spool").write_bytes(bytes(20_000))
    assert resume_position(tmp_path / "spool", {(1, 2): 8500}) == (Position(0, 0, 1), 0)


def test_lines_that_were_given_up_are_not_read_again(tmp_path: Path) -> None:
    note(tmp_path / "spool", NOWHERE)
    assert resume_position(tmp_path / "spool", {(1, 2): 8500}) == (AFTER, 0)


def note(spool: Path, part: PublicPart) -> None:
    """A note beside a spool of 9000 bytes."""
    spool.touch()
    os.truncate(spool, AFTER.raw)
    noted = SpoolNote(spool)
    noted.write(BEFORE, AFTER, part)
    noted.close()


def test_leftovers_are_the_spools_of_other_lives_the_oldest_first(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    paths = [SpoolFolder(folder, life=life).path_for(1) for life in ("b", "a", "c")]
    for age, path in enumerate(paths):
        path.touch()
        os.utime(path, (age, age))
    (folder / "notes.txt").touch()
    assert SpoolFolder(folder, life="c").leftovers() == paths[:2]


def test_a_note_whose_spool_is_gone_is_removed(tmp_path: Path) -> None:
    spool = SpoolFolder(tmp_path / "spool", life="a").path_for(1)
    note(spool, PART)
    spool.unlink()
    SpoolFolder(tmp_path / "spool", life="b").leftovers()
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.timeout(120)
def test_no_line_is_lost_or_doubled_when_the_reader_is_killed_again_and_again(
    tmp_path: Path, rng: random.Random
) -> None:
    expected: list[bytes] = []
    for life in range(40):
        lines = [line_of(len(expected) + n, rng) for n in range(rng.randrange(3000))]
        expected += lines
        spool = SpoolFolder(tmp_path / "spool", life=f"{life:04}").path_for(1)
        spool.write_bytes(b"".join(line + b"\n" for line in lines))
        os.utime(spool, (life, life))
        copier = start_copier(tmp_path, f"{life:04}")
        if life < 39:
            time.sleep(rng.random() * 0.05)
            copier.kill()
        else:
            wait_until(partial(only_left, tmp_path, spool), limit_s=20, what="all earlier spools are read")
            copier.send_signal(signal.SIGTERM)
        copier.wait(20)
    assert whole_log(tmp_path).splitlines() == [shown(line) for line in expected]
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.timeout(120)
def test_no_line_is_lost_or_doubled_when_a_spool_without_holes_is_emptied_by_readers_that_are_killed(
    tmp_path: Path, rng: random.Random
) -> None:
    expected: list[bytes] = []
    n_emptied = 0
    for life in range(40):
        spool = SpoolFolder(tmp_path / "spool", life=f"{life:04}").path_for(1)
        spool.touch()
        os.utime(spool, (life, life))
        copier = start_copier(tmp_path, f"{life:04}", empty_from_bytes=20_000)
        killer = threading.Timer(0.02 + rng.random() * 0.1, copier.kill)
        killer.start()
        while copier.poll() is None:  # in bursts: nothing is written while the reader looks and empties
            lines = [line_of(len(expected) + n, rng) for n in range(150)]  # some 30 kB
            expected += lines
            append(spool, b"".join(line + b"\n" for line in lines))
            wait_until(partial(is_empty_or_dead, spool, copier), limit_s=20, what="emptied, or killed")
            n_emptied += spool.stat().st_size == 0
        killer.join()
    SpoolFolder(tmp_path / "spool", life="last").path_for(1).touch()
    last = start_copier(tmp_path, "last", empty_from_bytes=20_000)
    wait_until(lambda: left(tmp_path) == {"engine-last-1.log"}, limit_s=20, what="all spools are read")
    last.send_signal(signal.SIGTERM)
    last.wait(20)
    assert whole_log(tmp_path).splitlines() == [shown(line) for line in expected]
    assert n_emptied > 40


def is_empty_or_dead(spool: Path, copier: subprocess.Popen[bytes]) -> bool:
    """Emptied and noted: in between a real engine would have to write 64 MiB to mislead the next life."""
    is_noted = spool.stat().st_size == 0 and note_path(spool).read_bytes().split()[3:4] == [b"0"]
    return is_noted or copier.poll() is not None


def only_left(folder: Path, spool: Path) -> bool:
    return left(folder) == {spool.name}


def line_of(number: int, rng: random.Random) -> bytes:
    """A numbered line; some hold a secret that is taken out, which changes their length."""
    if rng.random() < 0.05:
        return b"%08d url=http://user:password@host" % number
    return b"%08d %s" % (number, b"x" * rng.randrange(400))


def shown(line: bytes) -> bytes:
    return line.replace(b"user:password", b"[redacted]")


def start_copier(folder: Path, life: str, *, empty_from_bytes: int | None = None) -> subprocess.Popen[bytes]:
    without_holes = [] if empty_from_bytes is None else [str(empty_from_bytes)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    copier = subprocess.Popen(
        [sys.executable, str(COPIER), str(folder), life, str(200_000), *without_holes],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert copier.stdout is not None
    assert copier.stdout.readline() == b"begun\n"
    copier.stdout.close()
    return copier


def test_what_the_engine_wrote_last_before_the_daemon_was_killed_is_in_the_log_of_the_next_life(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    started = daemon("flood,mb_per_s=3").wait_ready()
    wait_until(lambda: started.engine_log_text().count("flood") > 3000, limit_s=10, what="the flood")
    started.signal(signal.SIGKILL)
    started.wait_exit()
    spools = left(started.state_dir)
    started.start().wait_ready()
    wait_until(
        lambda: not spools & left(started.state_dir), limit_s=10, what="the spool of the dead life is read"
    )
    numbers = [int(n) for n in re.findall(r"^flood (\d{9}) ", started.engine_log_text(), re.MULTILINE)]
    again = numbers.index(0, 1)  # the second life counts from the beginning
    assert numbers[:again] == list(range(again))


def left(state_dir: Path) -> set[str]:
    """The spools that are still there."""
    return {path.name for path in (state_dir / "spool").glob("*.log")}
