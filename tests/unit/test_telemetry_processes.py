"""Guards CONTRACT §4 `/api/stats`, the parts `engine` and `daemon`: each figure is that of the process it names."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arasul_supervisor.telemetry.process_figures import (
    ProcessFigures,
    TreeFigures,
    read_own,
    read_tree,
    tree_with_load,
    with_load,
)
from arasul_supervisor.telemetry.process_files import PROC, parse_stat, read_argv, read_pss_bytes

if TYPE_CHECKING:
    from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENGINE = ProcessFigures(pid=100, start_ticks=500, cpu_ticks=1000, rss_bytes=1, threads=3, open_fds=7)
RUNNER = ProcessFigures(pid=101, start_ticks=900, cpu_ticks=4000, rss_bytes=2, threads=8, open_fds=4)


def stat_line(pid: int, parent: int, *, state: str = "S", pages: int = 10, name: str = "a) name") -> str:
    """Fields of proc(5): 3 ticks user and 4 system, 12 threads, started at tick 5120."""
    times = "3 4 0 0 20 0 12 0 5120 99"
    return f"{pid} ({name}) {state} {parent} 100 100 0 -1 4194560 511 0 0 0 {times} {pages} 18446744073709551615 1"


def write_processes(proc: Path, *lines: str) -> None:
    for line in lines:
        folder = proc / line.partition(" ")[0]
        folder.mkdir()
        (folder / "stat").write_text(line + "\n")


def later(process: ProcessFigures, *, ticks: int) -> ProcessFigures:
    return replace(process, cpu_ticks=process.cpu_ticks + ticks)


def test_the_fields_of_a_stat_line_are_counted_behind_the_last_bracket() -> None:
    stat = parse_stat(stat_line(4242, 17, pages=187, name="a name) R 1 (").encode())

    assert stat is not None
    assert (stat.pid, stat.parent_pid, stat.is_dead) == (4242, 17, False)
    assert (stat.cpu_ticks, stat.threads, stat.start_ticks) == (3 + 4, 12, 5120)
    assert stat.rss_bytes == 187 * PAGE


@given(st.binary())
@example(b"1 (a) S " + b"9" * 5000)
def test_any_bytes_in_a_stat_file_give_a_process_or_nothing(text: bytes) -> None:
    parse_stat(text)
    parse_stat(b"4242 (a) S 17 " + text)


def test_the_tree_of_a_process_counts_its_descendants() -> None:
    nest = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", nest], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()  # from the grandchild
        tree = read_tree(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(timeout=10)

    assert tree is not None
    assert (tree.pid, len(tree.members), tree.threads) == (process.pid, 2, 2)
    assert tree.rss_bytes > 2 * 3 * 2**20
    assert tree.open_fds is not None
    assert tree.open_fds >= 2 * 3


def test_a_kernel_without_lists_of_children_is_scanned(tmp_path: Path) -> None:
    write_processes(
        tmp_path,
        stat_line(100, 1, pages=10),
        stat_line(101, 100, pages=20),
        stat_line(102, 101, pages=30),
        stat_line(103, 1, pages=40),
    )

    tree = read_tree(100, tmp_path)

    assert tree is not None
    assert [member.pid for member in tree.members] == [100, 101, 102]
    assert tree.rss_bytes == 60 * PAGE


def test_a_table_that_changes_while_it_is_scanned_counts_nobody_twice(tmp_path: Path) -> None:
    write_processes(tmp_path, stat_line(100, 102), stat_line(101, 100), stat_line(102, 101))

    tree = read_tree(100, tmp_path)

    assert tree is not None
    assert [member.pid for member in tree.members] == [100, 101, 102]


def test_the_dead_who_wait_for_their_parent_do_not_count(tmp_path: Path) -> None:
    write_processes(tmp_path, stat_line(100, 1), stat_line(101, 100, state="Z", pages=0))

    tree = read_tree(100, tmp_path)

    assert tree is not None
    assert [member.pid for member in tree.members] == [100]


def test_a_dead_engine_has_no_figures(tmp_path: Path) -> None:
    write_processes(tmp_path, stat_line(100, 1, state="Z", pages=0))

    assert read_tree(100, tmp_path) is None


@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_no_engine_is_no_figure(pid: int | None) -> None:
    assert read_tree(pid) is None


def test_descriptors_that_are_not_ours_to_see_leave_the_sum_unknown() -> None:
    assert TreeFigures((ENGINE, replace(RUNNER, open_fds=None))).open_fds is None


def test_the_daemon_sees_itself() -> None:
    before = read_own()
    read_end, write_end = os.pipe()
    after = read_own()
    os.close(read_end)
    os.close(write_end)

    assert before is not None
    assert after is not None
    assert after.pid == os.getpid()
    assert after.rss_bytes > 5 * 2**20
    assert before.open_fds is not None
    assert after.open_fds == before.open_fds + 2


@pytest.mark.parametrize(
    ("ticks", "passed_s", "percent"),
    [(0, 5.0, 0.0), (TICKS_PER_S * 5, 5.0, 100.0), (TICKS_PER_S * 20, 5.0, 400.0), (1, 0.0, None)],
    ids=["idle", "one processor", "four processors", "no time between"],
)
def test_processor_time_is_told_in_percent_of_one_processor(
    ticks: int, passed_s: float, percent: float | None
) -> None:
    assert with_load(later(RUNNER, ticks=ticks), RUNNER, passed_s=passed_s).cpu_percent == percent


def test_a_pid_that_is_used_again_starts_without_a_figure() -> None:
    another = replace(later(RUNNER, ticks=TICKS_PER_S), start_ticks=RUNNER.start_ticks + 1)

    assert with_load(another, RUNNER, passed_s=5.0).cpu_percent is None


def test_the_load_of_the_tree_is_that_of_all_who_were_there_before() -> None:
    before = TreeFigures((ENGINE, RUNNER))
    newcomer = replace(RUNNER, pid=102, cpu_ticks=999_999)
    after = TreeFigures((later(ENGINE, ticks=TICKS_PER_S), later(RUNNER, ticks=4 * TICKS_PER_S), newcomer))

    loaded = tree_with_load(after, before, passed_s=5.0)

    assert [member.cpu_percent for member in loaded.members] == [20.0, 80.0, None]
    assert loaded.cpu_percent == 100.0


def test_a_new_engine_has_no_load_before_its_second_look() -> None:
    before = TreeFigures((ENGINE,))
    after = TreeFigures((replace(ENGINE, pid=200), RUNNER))

    assert tree_with_load(after, before, passed_s=5.0).cpu_percent is None
    assert tree_with_load(after, None, passed_s=5.0).cpu_percent is None


def test_arguments_are_told_apart_and_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cmdline").write_bytes(b"ollama\0runner\0\0--model\0/a b\0")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "cmdline").write_bytes(b"")  # a zombie's

    assert read_argv(1, tmp_path) == ("ollama", "runner", "", "--model", "/a b")
    assert read_argv(2, tmp_path) == ()
    assert read_argv(3, tmp_path) is None


def test_shared_pages_count_in_part(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "smaps_rollup").write_text(
        "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:    5021 kB\nPss:    1234 kB\nPss_Anon:  5 kB\n"
    )

    assert read_pss_bytes(1, tmp_path) == 1234 * 1024
    assert read_pss_bytes(2, tmp_path) is None
    assert (read_pss_bytes(os.getpid(), PROC) or 0) > 2**20
