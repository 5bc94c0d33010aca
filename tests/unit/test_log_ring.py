"""Guards `/api/logs`: paging without a gap, and filters."""

from __future__ import annotations

from arasul_supervisor.logs.meaning.classify import classify
from arasul_supervisor.logs.ring import LineFilter, LogBlock, LogPage, Ring

ALL = LineFilter()
HEAD = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="


def test_the_newest_lines_come_oldest_first() -> None:
    ring = ring_of(["a", "b"], ["c", "d"])
    page = ring.latest(3, ALL)
    assert texts(page) == ["b", "c", "d"]
    assert page.next == 4


def test_paging_by_seq_gives_every_line_once() -> None:
    ring = ring_of(["a", "b"], ["c", "d"], ["e"])
    first = ring.since(0, 2, ALL)
    second = ring.since(first.next, 2, ALL)
    third = ring.since(second.next, 2, ALL)
    last = ring.since(third.next, 2, ALL)
    assert [texts(page) for page in (first, second, third, last)] == [["a", "b"], ["c", "d"], ["e"], []]
    assert last.next == 5


def test_lines_that_came_and_went_are_counted() -> None:
    ring = ring_of(["a", "b"], ["c", "d"], ["e"], limit_lines=3)
    page = ring.since(0, 9, ALL)
    assert texts(page) == ["c", "d", "e"]
    assert page.dropped == 2


def test_a_seq_of_an_earlier_life_begins_anew() -> None:
    page = ring_of(["a"], ["b"]).since(999, 9, ALL)
    assert (texts(page), page.next, page.dropped) == (["a", "b"], 2, None)


def test_a_seq_of_an_earlier_life_that_was_shorter_begins_anew_too() -> None:
    page = ring_of(["a"], ["b"], first_seq=1000).since(7, 9, ALL)
    assert (texts(page), page.next, page.dropped) == (["a", "b"], 1002, None)


def test_from_0_on_nothing_is_missing() -> None:
    page = ring_of(["a"], ["b"], first_seq=1000).since(0, 9, ALL)
    assert (texts(page), page.next, page.dropped) == (["a", "b"], 1002, 0)


def test_a_line_that_comes_while_a_page_is_made_stands_on_the_next_one() -> None:
    ring = ring_of(["a"])
    seen_before = ring.next_seq
    ring.append(LogBlock(1, 1.0, 1, b"b\n", 1, {}))
    assert [block.first_seq for block in ring._held(seen_before)] == [0]


def test_an_instant_gives_the_lines_from_there_on() -> None:
    page = ring_of(["a"], ["b"], ["c"]).since(101.0, 9, ALL)  # the n-th block is of 100 + n
    assert texts(page) == ["b", "c"]


def test_a_level_means_this_loud_or_louder_and_an_outcome_makes_a_line_loud() -> None:
    ring = ring_of(["Error: x", HEAD + '"Load failed" error=y', HEAD.replace("INFO", "WARN") + "z", "raw"])
    assert len(ring.latest(9, LineFilter(level="error")).lines) == 2
    assert len(ring.latest(9, LineFilter(level="warning")).lines) == 3
    assert [line.outcome for line in ring.latest(9, LineFilter(outcome="load_failed")).lines] == [
        "load_failed"
    ]


def test_a_filtered_page_continues_behind_what_it_looked_at() -> None:
    ring = ring_of(["Error: 1", "raw", "Error: 2", "raw"])
    first = ring.since(0, 1, LineFilter(level="error"))
    second = ring.since(first.next, 1, LineFilter(level="error"))
    assert (texts(first), texts(second)) == (["Error: 1"], ["Error: 2"])
    assert second.next == 4


def test_long_lines_are_bounded_by_their_bytes() -> None:
    ring = ring_of(["x" * 50], ["y" * 50], ["z" * 50], limit_bytes=120)
    assert texts(ring.latest(9, ALL)) == ["y" * 50, "z" * 50]


def test_lines_with_an_outcome_outlive_a_flood() -> None:
    ring = ring_of(["panic: 1", "raw"], ["panic: 2", *["raw"] * 8], *[["raw"] * 9] * 5, limit_lines=10)
    told = LineFilter(outcome="panic")
    assert texts(ring.latest(9, told)) == ["panic: 1", "panic: 2"]
    assert texts(ring.latest(1, told)) == ["panic: 2"]
    assert texts(ring.since(1, 9, told)) == ["panic: 2"]
    assert ring.since(0, 1, told).next == 1
    assert ring.latest(9, LineFilter(outcome="panic", generation=2)).lines == ()
    assert ring.since(0, 9, told).dropped == 0
    assert ring.since(0, 9, ALL).dropped == 38


def test_lines_with_an_outcome_that_are_gone_are_counted_where_they_are_missing() -> None:
    ring = ring_of(*[[f"panic: {n}"] for n in range(502)], limit_lines=1)
    told = LineFilter(outcome="panic")
    first = ring.since(0, 9, told)
    assert (first.dropped, first.lines[0].text) == (1, "panic: 1")
    assert ring.since(1, 9, told).dropped == 0


def test_a_line_that_leaves_the_blocks_while_a_page_is_made_is_told_once() -> None:
    ring = ring_of(["panic: 1"], ["panic: 2"], limit_lines=2)
    held = ring._held(ring.next_seq)
    ring.append(LogBlock(2, 1.0, 1, b"raw\nraw\n", 2, {}))
    assert ring._older(LineFilter(outcome="panic"), held) == []


def test_bytes_that_are_no_utf8_are_shown_as_such() -> None:
    ring = Ring(limit_lines=10)
    ring.append(LogBlock(0, 1.0, 1, b"\xff\x00\n", 1, {}))
    assert texts(ring.latest(1, ALL)) == ["\ufffd\x00"]


def test_a_reason_that_waits_for_its_verdict_tells_of_nothing() -> None:
    ring = ring_of(["CUDA error: out of memory"])
    assert ring.latest(9, LineFilter(outcome="out_of_memory")).lines == ()
    assert [(line.level, line.outcome) for line in ring.latest(9, ALL).lines] == [("info", None)]


def ring_of(
    *blocks: list[str], limit_lines: int = 100, limit_bytes: int = 10_000, first_seq: int = 0
) -> Ring:
    ring = Ring(limit_lines=limit_lines, limit_bytes=limit_bytes, first_seq=first_seq)
    for number, lines in enumerate(blocks):
        matches = {index: match for index, line in enumerate(lines) if (match := classify(line))}
        data = "".join(f"{line}\n" for line in lines).encode()
        ring.append(LogBlock(ring.next_seq, 100.0 + number, 1, data, len(lines), matches))
    return ring


def texts(page: LogPage) -> list[str]:
    return [line.text for line in page.lines]
