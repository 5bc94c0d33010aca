"""Guards that the public `ollama.log` bears a full disk: what is lost is counted, and each line is whole."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.public_log import PublicLog
from arasul_supervisor.logs.rotation import Rotation
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.logs.resume import PublicPart

LINE = b"y" * 99 + b"\n"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_a_disk_without_room_for_the_packed_file_keeps_the_plain_one(small_disk: Path) -> None:
    rotation = Rotation(3)
    (small_disk / "log.1").write_bytes(os.urandom(40_000))
    (small_disk / "log").write_bytes(b"x")
    rotation.rotate(str(small_disk / "log"))
    rotation.wait()
    rotation.close()
    assert {path.name: path.stat().st_size for path in small_disk.iterdir()} == {"log.1": 1, "log.2": 40_000}


def test_a_full_disk_loses_lines_counts_them_and_says_so_once(small_disk: Path, clock: HandClock) -> None:
    path = small_disk / "ollama.log"
    log = PublicLog(path, max_bytes=10**9, keep=2, clock=clock)
    ballast = small_disk / "ballast"
    log.write(b"first\n")
    ballast.write_bytes(b"x" * 56 * 1024)
    for _ in range(200):
        log.write(b"y" * 99 + b"\n")
    said_when_full = log.take_notices()
    ballast.unlink()
    log.write(b"again\n")
    said_when_free = log.take_notices()
    log.close()
    lines = path.read_bytes().splitlines()
    whole = lines.count(b"y" * 99)
    assert lines[0] == b"first"
    assert lines[-2:] == [
        b"arasul-supervisor: %d lines of the engine are missing here: No space left on device"
        % log.lost_lines,
        b"again",
    ]
    assert 0 < log.lost_lines == 200 - whole
    assert [len(said_when_full), len(said_when_free)] == [1, 1]


def test_a_folder_that_cannot_be_is_said_once_and_never_raises(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "file").touch()
    log = PublicLog(tmp_path / "file" / "ollama.log", max_bytes=20, keep=2, clock=clock)
    log.write(b"a\n")
    log.write(b"b\nc\n")
    assert log.lost_lines == 3
    assert len(log.take_notices()) == 1


def test_a_disk_that_is_full_at_the_open_is_borne(small_disk: Path, clock: HandClock) -> None:
    fill(small_disk)
    log = PublicLog(small_disk / "logs" / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    for _ in range(10):
        log.write(LINE)
    (small_disk / "ballast").unlink()
    log.write(b"again\n")
    log.close()
    assert (small_disk / "logs" / "ollama.log").read_bytes() == (
        b"arasul-supervisor: 10 lines of the engine are missing here: No space left on device\nagain\n"
    )


def test_a_disk_that_is_full_for_the_new_file_of_a_rotation_is_borne(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PublicLog(tmp_path / "ollama.log", max_bytes=250, keep=2, clock=clock)
    log.write(LINE * 2)
    monkeypatch.setattr(log, "_open", full)
    log.write(LINE)
    monkeypatch.undo()
    log.write(LINE)
    log.close()
    assert (tmp_path / "ollama.log.1").read_bytes() == LINE * 2
    assert (tmp_path / "ollama.log").read_bytes() == (
        b"arasul-supervisor: 1 lines of the engine are missing here: No space left on device\n" + LINE
    )


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_rotation_that_finds_no_thread_for_the_compression_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rotation = Rotation(3)
    for name in ("log", "log.1"):
        (tmp_path / name).write_text(name)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        rotation.rotate(str(tmp_path / "log"))
    (tmp_path / "log").write_text("newest")
    rotation.rotate(str(tmp_path / "log"))
    rotation.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.1", "log.2.gz", "log.3.gz"]


def test_a_line_that_the_full_disk_cut_gets_an_end_before_the_next(
    small_disk: Path, clock: HandClock
) -> None:
    path = small_disk / "ollama.log"
    log = PublicLog(path, max_bytes=10**9, keep=2, clock=clock)
    log.write(LINE)
    fill(small_disk)
    log.write(LINE * 100)  # of its page some 3,996 bytes are left
    cut = path.read_bytes()
    (small_disk / "ballast").unlink()
    log.write(b"again\n")
    log.close()
    assert not cut.endswith(b"\n")
    lines = path.read_bytes()[len(cut) :].splitlines()
    missing = 101 - cut.count(b"\n")
    assert lines == [
        b"",
        b"arasul-supervisor: %d lines of the engine are missing here: No space left on device" % missing,
        b"again",
    ]


def test_a_line_that_an_earlier_life_left_cut_gets_an_end(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "ollama.log").write_bytes(b"whole\ncut")
    log = PublicLog(tmp_path / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    log.write(b"next\n")
    log.close()
    assert (tmp_path / "ollama.log").read_bytes() == b"whole\ncut\nnext\n"


def test_a_line_that_an_earlier_life_was_killed_in_is_continued(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "ollama.log").write_bytes(b"whole\nfirst half,")
    log = PublicLog(tmp_path / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    log.write(b" second half\n", done=11)
    log.close()
    assert (tmp_path / "ollama.log").read_bytes() == b"whole\nfirst half, second half\n"


def test_lines_that_were_lost_are_noted_as_dealt_with(small_disk: Path, clock: HandClock) -> None:
    noted: list[PublicPart] = []
    log = PublicLog(small_disk / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    fill(small_disk)
    log.write(LINE, noted.append)
    log.close()
    assert (noted[-1].device, noted[-1].total) == (0, 0)


def test_the_size_noted_is_that_after_a_copytruncate(tmp_path: Path, clock: HandClock) -> None:
    noted: list[PublicPart] = []
    log = PublicLog(tmp_path / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    log.write(LINE, noted.append)
    os.truncate(tmp_path / "ollama.log", 0)
    log.write(LINE, noted.append)
    log.close()
    assert [part.size for part in noted] == [0, 0]


def test_trouble_says_what_to_do_while_the_disk_is_full(small_disk: Path, clock: HandClock) -> None:
    log = PublicLog(small_disk / "ollama.log", max_bytes=10**9, keep=2, clock=clock)
    fill(small_disk)
    log.write(LINE * 2)
    while_full = log.trouble
    (small_disk / "ballast").unlink()
    log.write(LINE)
    log.close()
    assert while_full == (
        f"The engine log {small_disk}/ollama.log cannot be written: No space left on device. Make room on its disk, "
        "or lower ARASUL_LOG_MAX_BYTES or ARASUL_LOG_KEEP. 2 lines are missing there so far."
    )
    assert log.trouble is None


def test_trouble_says_that_a_rotation_fails_until_one_succeeds(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "ollama.log.1").mkdir()
    log = PublicLog(tmp_path / "ollama.log", max_bytes=150, keep=1, clock=clock)
    log.write(LINE * 2)
    while_failing = log.trouble
    (tmp_path / "ollama.log.1").rmdir()
    clock.now += 61.0
    log.write(LINE)
    log.close()
    assert while_failing is not None
    assert while_failing.startswith(f"The engine log {tmp_path}/ollama.log cannot be rotated: ")
    assert log.trouble is None
    assert (tmp_path / "ollama.log.1").read_bytes() == LINE * 2


def fill(disk: Path) -> None:
    """Takes all room by a file `ballast`."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
