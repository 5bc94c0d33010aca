"""Guards promise 4 of the contract: the engine is never blocked by its log, and no line is lost or doubled.

The writers are real processes with O_APPEND, as the engine is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import CannotRunHere
from arasul_supervisor.logs import skim as skim_module
from arasul_supervisor.logs.follower import Follower, Lines
from arasul_supervisor.logs.resume import BEGINNING
from arasul_supervisor.logs.spool import ALIGN_BYTES, PUNCH_BYTES, SpoolFolder, SpoolReader
from arasul_supervisor.logs.wakeup import open_inotify
from tests.engine.log_ground import LIMIT_S, LogGround, append, can_punch, child_writes
from tests.engine.public_log_files import older_files, whole_log

if TYPE_CHECKING:
    from pathlib import Path

LOADING = (
    'time=2026-11-23T07:32:48.871Z level=INFO source=llama_server.go:436 msg="starting llama-server" '
    'cmd="/lib/ollama/llama-server --model /models/blobs/sha256-aa --port 41007"'
)
LOAD_FAILED = 'time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="Load failed" error="x"'


async def test_what_a_child_appends_is_public_kept_and_passed_on(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1)
    async with ground.running():
        await child_writes(spool, "for n in range(20000): os.write(fd, b'line %d\\n' % n)")
        await ground.until_text("line 19999")
    expected = b"".join(b"line %d\n" % n for n in range(20000))
    assert ground.public.read_bytes() == expected
    assert b"".join(block.data for block in ground.passed.blocks) == expected
    kept = ground.log.lines(5000).lines
    assert (kept[0].text, kept[-1].seq - kept[0].seq) == ("line 15000", 4999)
    assert ground.log.dropped == 0


async def test_a_secret_is_in_the_spool_alone_and_the_spool_is_closed_to_others(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    line = b"HTTPS_PROXY:http://user:SECRET@host\n"
    spool = ground.begin(1, written=line)
    async with ground.running():
        await ground.until(lambda: ground.n_read == 1)
        assert spool.read_bytes() == line
        assert spool.parent.stat().st_mode & 0o777 == 0o700
        assert "SECRET" not in str(ground.log.tail(5, generation=1))
    assert b"SECRET" not in ground.public.read_bytes()
    assert b"SECRET" not in ground.passed.blocks[0].data


async def test_a_generation_is_read_to_its_end_before_the_next_begins(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    first = ground.begin(1, written=b"one\n" * 200_000 + b"Error: its last words")
    second = ground.begin(2, written=b"two\n")
    third = ground.begin(3, written=b"three\n")
    async with ground.running():
        await ground.until_text("three")
    assert ground.public.read_bytes() == b"one\n" * 200_000 + b"Error: its last words\ntwo\nthree\n"
    assert ground.log.tail(1, generation=1) == ("Error: its last words",)
    assert [found.outcome for found in ground.log.findings(1)] == ["start_failed"]
    await ground.until(lambda: not any(path.exists() for path in (first, second, third)))


async def test_a_generation_that_never_started_is_passed_over(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.log.follow(1, ground.spools.path_for(1))
    ground.begin(2, written=b"two\n")
    async with ground.running():
        await ground.until_text("two")
    assert ground.reports == []


async def test_a_spool_that_appears_after_it_was_named_is_followed(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.spools.path_for(1)
    ground.log.follow(1, spool)
    async with ground.running():
        await asyncio.sleep(0.01)
        append(spool, b"here\n")
        await ground.until_text("here")


async def test_the_last_lines_are_there_before_they_were_read(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.begin(4, written=b"a\nb\nError: token=SECRETabc")
    assert ground.log.tail(2, generation=4) == ("b", "Error: token=[redacted]")
    assert ground.log.tail(2, generation=9) == ()


async def test_lines_of_the_ring_and_unread_ones_join_without_a_gap(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"a\nb")
    async with ground.running():
        await ground.until_text("a")
        append(spool, b"bb\nc\n")
        tail = ground.log.tail(10, generation=1)
    assert tail == ("a", "bbb", "c")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS], ids=["no instance left", "no inotify"])
async def test_without_inotify_the_spool_is_looked_at(tmp_path: Path, number: int) -> None:
    def refuse() -> int:
        raise OSError(number, os.strerror(number))

    ground = LogGround(tmp_path, inotify=refuse)
    spool = ground.begin(1)
    async with ground.running():
        append(spool, b"seen\n")
        await ground.until_text("seen")
    assert [event for event, _ in ground.reports] == ["engine_log_polled"]


async def test_with_inotify_nothing_is_said_of_polling(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.begin(1, written=b"seen\n")
    async with ground.running():
        await ground.until_text("seen")
    assert ground.reports == []


async def test_dots_without_an_end_are_shown_after_a_pause(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"....")
    async with ground.running():
        await ground.until_text("....")
        append(spool, b"..\nnext\n")
        await ground.until_text("next")
    assert ground.public.read_bytes() == b"....\n..\nnext\n"


async def test_what_was_read_is_given_back_to_the_disk(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"x" * 99 + b"\n")
    size = 8_000_000
    async with ground.running():
        append(spool, (b"x" * 99 + b"\n") * (size // 100))
        await ground.until(lambda: ground.n_read == size // 100 + 1)
        if not can_punch(tmp_path):
            pytest.skip("HOLES NOT TESTED: this file system cannot punch them")
        await ground.until(lambda: spool.stat().st_blocks * 512 < 2_500_000)
        assert spool.stat().st_size == size + 100


def test_no_block_stays_between_two_holes(tmp_path: Path) -> None:
    if not can_punch(tmp_path):
        pytest.skip("HOLES NOT TESTED: this file system cannot punch them")
    spool = tmp_path / "spool"
    spool.touch()
    reader, read_to = SpoolReader(spool), 0
    for _ in range(50):
        append(spool, b"x" * (PUNCH_BYTES + 777))
        read_to += PUNCH_BYTES + 777
        reader.free(read_to)
    reader.close()
    assert spool.stat().st_blocks * 512 <= 2 * ALIGN_BYTES


async def test_a_reader_far_behind_skips_counts_and_says_so(tmp_path: Path) -> None:
    ground = LogGround(tmp_path, lag_limit_bytes=100_000)
    n_lines = 30_000
    ground.begin(1, written=b"".join(b"line %05d\n" % n for n in range(n_lines)))
    async with ground.running():
        await ground.until_text(f"line {n_lines - 1:05d}")
    copied = [line for line in ground.public.read_text().splitlines() if line.startswith("line ")]
    assert ground.log.skipped_lines == n_lines - len(copied) > 0
    assert copied == [f"line {n:05d}" for n in range(n_lines - len(copied), n_lines)]
    assert f"arasul-supervisor: {ground.log.skipped_lines} lines skipped" in ground.public.read_text()
    assert [event for event, _ in ground.reports] == ["engine_log_skipped"]


async def test_of_what_is_skipped_the_lines_that_mean_something_are_kept(tmp_path: Path) -> None:
    ground = LogGround(tmp_path, lag_limit_bytes=100_000)
    flood = [b"line %05d\n" % n for n in range(30_000)]
    for n in range(0, 20_000, 1_000):
        flood[n] = f"{LOAD_FAILED}\n".encode()
    ground.begin(1, written=b"".join(flood))
    async with ground.running():
        await ground.until_text("line 29999")
    (found,) = ground.log.findings(1)
    assert (found.outcome, found.count) == ("load_failed", 20)
    assert ground.public.read_text().count(LOAD_FAILED) == 20
    assert ground.log.skipped_lines + ground.public.read_text().count("\n") - 1 == 30_000


@pytest.mark.parametrize("n_lines", [9_000, 9_001, 9_007])
async def test_after_a_skip_another_life_goes_on_with_a_whole_line(tmp_path: Path, n_lines: int) -> None:
    follower = Follower(SystemClock(), open_inotify, lag_limit_bytes=100_000)
    spool = tmp_path / "spool"
    append(spool, b"HTTPS_PROXY:http://user:SECRET@host\n" * n_lines)
    follower.follow(1, spool, public_bytes=30)

    lines = await follower.read()
    follower.close(last=lambda: None)

    assert lines is not None
    assert (
        lines.skipped_lines + lines.data.count(b"\n") + spool.read_bytes()[lines.end.raw :].count(b"\n")
        == n_lines
    )
    assert spool.read_bytes()[lines.end.raw :].startswith(b"HTTPS_PROXY")
    assert lines.public_bytes == 0  # what an earlier life had written is not what comes now


async def test_a_skip_that_ends_in_an_endless_line_goes_on_behind_it(tmp_path: Path) -> None:
    ground = LogGround(tmp_path, lag_limit_bytes=100_000)
    ground.begin(1, written=b"line\n" * 40_000 + b"x" * 300_000 + b"\nthe end\n")
    async with ground.running():
        await ground.until_text("the end")
    assert ground.log.skipped_lines == 40_001
    assert b"xx" not in ground.public.read_bytes()


async def test_steps_of_a_healthy_life_never_crowd_out_what_means_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skim_module, "KEPT_BYTES", 10_000)
    ground = LogGround(tmp_path, lag_limit_bytes=100_000)
    flood = [f"{LOADING}\n".encode() for _ in range(5_000)]
    for n in range(0, 4_000, 1_000):
        flood[n] = f"{LOAD_FAILED}\n".encode()
    ground.begin(1, written=b"".join(flood) + b"the end\n")
    async with ground.running():
        await ground.until_text("the end")
    assert sum(found.count for found in ground.log.findings(1)) == 4


async def test_what_is_private_stays_so_when_its_beginning_is_skipped(tmp_path: Path) -> None:
    ground = LogGround(tmp_path, lag_limit_bytes=100_000)
    begins = b"common_chat_peg_parse: full peg-native output triggering error: my\n"
    ground.begin(1, written=b"line\n" * 40_000 + begins + b"my secret\n" * 20_000 + LOADING.encode() + b"\n")
    async with ground.running():
        await ground.until_text(LOADING)
    assert ground.log.skipped_lines > 40_000
    assert "my" not in ground.public.read_text()


async def test_a_reader_behind_spares_stdout_first_and_the_file_has_all(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    lines = (b"x" * 99 + b"\n") * 120_000  # 12 MB: the first 4 of them are read more than 8 MiB behind
    ground.begin(1, written=lines)
    async with ground.running():
        await ground.until(lambda: ground.n_read == 120_000)
    assert ground.public.read_bytes() == lines
    assert ground.passed.n_dropped > 10_000
    assert ground.passed.n_dropped + sum(block.n_lines for block in ground.passed.blocks) == 120_000


async def test_an_end_in_the_middle_of_a_flood_loses_and_doubles_no_line(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    lines = b"".join(b"Error: %06d\n" % n for n in range(100_000))
    spool = ground.begin(1, written=lines)
    async with ground.running():
        await ground.until(lambda: ground.n_read > 0)
    if spool.exists():  # not all was read in so short a while
        next_life = LogGround(tmp_path)
        next_life.log.resume(spool)
        async with next_life.running():
            await next_life.until(lambda: ground.public.stat().st_size >= len(lines))
    assert ground.public.read_bytes() == lines


async def test_an_end_is_an_end_though_there_is_always_more_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_one_more(_follower: Follower) -> Lines:
        await asyncio.sleep(0.01)
        return Lines(1, b"more\n", BEGINNING, BEGINNING)

    ground = LogGround(tmp_path)
    ground.begin(1)
    monkeypatch.setattr(Follower, "read", read_one_more)
    async with ground.running():  # its end is waited for
        await ground.until_text("more")


async def test_a_write_that_queues_is_done_though_its_caller_is_cancelled() -> None:
    follower = Follower(SystemClock(), open_inotify)
    may_go_on, done = threading.Event(), threading.Event()
    slow = asyncio.create_task(follower.on_disk(may_go_on.wait, LIMIT_S))
    queued = asyncio.create_task(follower.on_disk(done.set))
    await asyncio.sleep(0)  # both are submitted, the second waits for the first
    queued.cancel()
    await asyncio.wait([queued])
    may_go_on.set()
    await slow
    await follower.on_disk(lambda: None)  # the thread works in order
    follower.close(last=lambda: None)
    assert done.is_set()


async def test_findings_come_with_their_generation(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.begin(1, written=f"{LOAD_FAILED}\n{LOAD_FAILED}\n".encode())
    ground.begin(2, written=b"fine\n")
    async with ground.running():
        await ground.until_text("fine")
    (found,) = ground.log.findings(1)
    assert (found.outcome, found.severity, found.count, found.lines) == (
        "load_failed",
        "error",
        2,
        (LOAD_FAILED,),
    )
    assert ground.log.findings(2) == ()
    assert [line.level for line in ground.log.lines(9, outcome="load_failed").lines] == ["error", "error"]


async def test_a_rotation_loses_no_line(tmp_path: Path) -> None:
    ground = LogGround(tmp_path, max_bytes=10_000)
    spool = ground.begin(1)
    async with ground.running():
        await child_writes(spool, "for n in range(20000): os.write(fd, b'line %d\\n' % n)")
        await ground.until_text("line 19999")
    assert whole_log(tmp_path) == b"".join(b"line %d\n" % n for n in range(20000))
    assert max(map(len, older_files(tmp_path))) <= 10_000


async def test_a_flood_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1)
    turns = 0
    async with ground.running():
        flood = asyncio.create_task(
            child_writes(spool, "for n in range(300): os.write(fd, (b'x' * 99 + b'\\n') * 1000)")
        )
        while ground.n_read < 300_000:
            await asyncio.sleep(0.0005)
            turns += 1
        await flood
    assert turns > 60  # 30 MB are 30 reads, and each is looked through in several turns


def test_a_link_in_the_place_of_the_spool_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotRunHere, match="must be a folder: it takes"):
        SpoolFolder(tmp_path / "spool").path_for(1)


def test_root_takes_the_folder_of_another_user_over(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: taking a folder over, for that needs root")
    SpoolFolder(tmp_path / "spool").path_for(1)
    os.chown(tmp_path / "spool", 10001, 10001)
    SpoolFolder(tmp_path / "spool").path_for(1)
    assert (tmp_path / "spool").stat().st_uid == 0


def test_a_folder_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    SpoolFolder(tmp_path / "spool").path_for(1)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_spool_is_counted_without_being_read(tmp_path: Path) -> None:
    append(tmp_path / "spool", b"a\nb\nc\n")
    reader = SpoolReader(tmp_path / "spool")
    counted = reader.count_lines(4)
    reader.close()
    assert counted == 2


async def test_what_befalls_the_engine_is_said_in_the_log_of_the_daemon(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.begin(1, written=f"{LOAD_FAILED}\n{LOAD_FAILED}\nlast\n".encode())
    async with ground.running():
        await ground.until_text("last")
    ((event, fields),) = ground.reports
    assert (event, fields["outcome"], fields["severity"]) == ("engine_outcome", "load_failed", "error")
    assert str(fields["message"]).startswith("A model could not be loaded")


async def test_what_befalls_the_raw_log_is_said_in_the_log_of_the_daemon(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"before\n")
    async with ground.running():
        await ground.until_text("before")
        spool.unlink()
        await ground.until(lambda: bool(ground.reports))
    ((event, fields),) = ground.reports
    assert event == "engine_log_raw"
    assert "was removed" in str(fields["message"])


async def test_a_public_file_that_cannot_be_written_is_a_trouble_of_health(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    ground.public.mkdir()
    ground.begin(1, written=b"a line\n")
    async with ground.running():
        await ground.until(lambda: bool(ground.log.troubles()))
        (trouble,) = ground.log.troubles()
    assert (trouble.outcome, trouble.severity) == ("log_unwritable", "error")
    assert str(ground.public) in trouble.sentence


async def test_the_tail_of_a_line_that_was_shown_half_hides_its_secret(tmp_path: Path) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1, written=b"x tok")
    async with ground.running():
        await ground.until_text("x tok")
        append(spool, b"en=hunter2secret\n")
        assert "hunter2secret" not in "".join(ground.log.tail(9, generation=1))
