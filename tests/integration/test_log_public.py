"""Guards the public `ollama.log`: what people, logrotate and a full disk do to it."""

from __future__ import annotations

import gzip
import os
import stat
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.public_log import PublicLog
from arasul_supervisor.logs.rotation import Rotation
from tests.engine.log_ground import HandClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def log(tmp_path: Path, clock: HandClock) -> Iterator[PublicLog]:
    log = PublicLog(tmp_path / "logs" / "ollama.log", max_bytes=20, keep=2, clock=clock)
    yield log
    log.close()


def test_a_link_whose_target_is_still_to_be_made_is_followed(tmp_path: Path, clock: HandClock) -> None:
    path, target = tmp_path / "ollama.log", tmp_path / "volume" / "logs" / "ollama.log"
    path.symlink_to(target)
    log = PublicLog(path, max_bytes=20, keep=2, clock=clock)

    log.write(b"a line\n")
    log.close()

    assert (path.is_symlink(), target.read_bytes()) == (True, b"a line\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_the_file_is_made_with_its_folder_and_closed_to_others(log: PublicLog, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    log.write(b"a\n")
    os.umask(umask)
    path = tmp_path / "logs" / "ollama.log"
    assert path.read_bytes() == b"a\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_older_file_is_continued_with_its_mode(log: PublicLog, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "ollama.log"
    path.write_bytes(b"old\n")
    path.chmod(0o600)
    log.write(b"new\n")
    assert path.read_bytes() == b"old\nnew\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation_cuts_between_lines_and_keeps_so_many(log: PublicLog, tmp_path: Path) -> None:
    log.write(b"".join(b"%08d\n" % n for n in range(8)))  # two lines of 9 bytes fit in 20
    log.rotation.wait()
    assert contents(tmp_path / "logs") == {
        "ollama.log": b"00000006\n00000007\n",
        "ollama.log.1": b"00000004\n00000005\n",
        "ollama.log.2.gz": b"00000002\n00000003\n",
    }


def contents(folder: Path) -> dict[str, bytes]:
    """What each file holds, unpacked."""
    return {
        path.name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.iterdir()
    }


def test_a_size_of_0_leaves_rotation_to_others(tmp_path: Path, clock: HandClock) -> None:
    log = PublicLog(tmp_path / "ollama.log", max_bytes=0, keep=2, clock=clock)
    log.write(b"a\nb\n")
    log.close()
    assert contents(tmp_path) == {"ollama.log": b"a\nb\n"}


def test_a_line_larger_than_a_file_gets_one_of_its_own(log: PublicLog, tmp_path: Path) -> None:
    log.write(b"a\n" + b"x" * 30 + b"\nb\n")
    log.rotation.wait()
    assert contents(tmp_path / "logs") == {
        "ollama.log": b"b\n",
        "ollama.log.1": b"x" * 30 + b"\n",
        "ollama.log.2.gz": b"a\n",
    }


def test_a_compressed_file_keeps_mode_and_time_of_the_plain_one(log: PublicLog, tmp_path: Path) -> None:
    log.write(b"".join(b"%08d\n" % n for n in range(5)))
    log.rotation.wait()
    packed = tmp_path / "logs" / "ollama.log.2.gz"
    assert stat.S_IMODE(packed.stat().st_mode) == 0o640


def test_files_that_an_older_version_or_a_killed_daemon_left_plain_are_compressed(tmp_path: Path) -> None:
    rotation = Rotation(4)
    for name in ("log", "log.1", "log.2", "log.3"):
        (tmp_path / name).write_text(name)
    (tmp_path / "log.gz.part").write_text("half of one")
    rotation.rotate(str(tmp_path / "log"))
    rotation.wait()
    rotation.close()
    expected = {"log.1": b"log", "log.2.gz": b"log.1", "log.3.gz": b"log.2", "log.4.gz": b"log.3"}
    assert contents(tmp_path) == expected


def test_rotations_faster_than_the_compression_lose_nothing(tmp_path: Path) -> None:
    rotation = Rotation(1000)
    for number in range(100):
        (tmp_path / "log").write_bytes(b"%08d" % number * 20_000)
        rotation.rotate(str(tmp_path / "log"))
    rotation.wait()
    rotation.close()
    found = {name: content[:8] for name, content in contents(tmp_path).items()}
    assert found == {f"log.{n}{'.gz' * (n > 1)}": b"%08d" % (100 - n) for n in range(1, 101)}


def test_after_a_copytruncate_the_size_is_counted_anew(
    log: PublicLog, tmp_path: Path, clock: HandClock
) -> None:
    log.write(b"x" * 17 + b"\n")
    os.truncate(tmp_path / "logs" / "ollama.log", 0)
    clock.now += 2
    log.write(b"y" * 17 + b"\n")
    assert contents(tmp_path / "logs") == {"ollama.log": b"y" * 17 + b"\n"}


def test_behind_a_link_the_target_rotates_and_the_link_stays(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "ollama.log"
    link.symlink_to(tmp_path / "real" / "ollama.log")
    log = PublicLog(link, max_bytes=20, keep=2, clock=clock)
    log.write(b"00000000\n00000001\n00000002\n")
    log.close()
    assert link.is_symlink()
    assert link.read_bytes() == b"00000002\n"
    assert (tmp_path / "real" / "ollama.log.1").read_bytes() == b"00000000\n00000001\n"


def test_after_the_operators_rotation_and_a_reopen_lines_go_to_the_new_file(
    log: PublicLog, tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "ollama.log"
    log.write(b"a\n")
    path.rename(tmp_path / "moved")
    log.reopen()
    log.write(b"b\n")
    assert (tmp_path / "moved").read_bytes() == b"a\n"
    assert path.read_bytes() == b"b\n"


def test_a_file_that_was_removed_is_made_again_within_a_second(
    log: PublicLog, tmp_path: Path, clock: HandClock
) -> None:
    path = tmp_path / "logs" / "ollama.log"
    log.write(b"a\n")
    path.unlink()
    clock.now = 1.0
    log.write(b"b\n")
    assert path.read_bytes() == b"b\n"


def test_a_truncation_by_the_operator_is_survived(log: PublicLog, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "ollama.log"
    log.write(b"a\n")
    os.truncate(path, 0)
    log.write(b"b\n")
    assert path.read_bytes() == b"b\n"


def test_a_pipe_in_the_place_of_the_file_neither_blocks_nor_rotates(tmp_path: Path, clock: HandClock) -> None:
    os.mkfifo(tmp_path / "ollama.log")
    log = PublicLog(tmp_path / "ollama.log", max_bytes=4, keep=2, clock=clock)
    log.write(b"nobody reads\n")
    reader = os.open(tmp_path / "ollama.log", os.O_RDONLY | os.O_NONBLOCK)
    log.write(b"somebody reads\n")
    read = os.read(reader, 1000)
    os.close(reader)
    log.close()
    assert read.endswith(b"somebody reads\n")
    assert os.listdir(tmp_path) == ["ollama.log"]
