"""Guards how the engine's bytes become lines (contract, promise 4: no line is lost or doubled)."""

from __future__ import annotations

import pytest

from arasul_supervisor.logs.lines import CUT_MARK, Splitter, pieces
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.meaning.screen import screen


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        pytest.param(b"a\nb\n", b"a\nb\n", id="plain lines"),
        pytest.param(b"\n\n", b"\n\n", id="empty lines stay"),
        pytest.param(b"one\x0btwo\x85three\n", b"one\x0btwo\x85three\n", id="only a newline ends a line"),
        pytest.param(
            "x\u2028y\n".encode(), "x\u2028y\n".encode(), id="a line separator of Unicode ends nothing"
        ),
        pytest.param(b"1%\r50%\r100%\n", b"100%\n", id="of progress the last state stays"),
        pytest.param(b"dos\r\n", b"dos\n", id="CRLF is one end"),
        pytest.param(b"a\x00b\xff\xfe\n", b"a\x00b\xff\xfe\n", id="NUL and bytes that are no UTF-8 survive"),
        pytest.param(
            b"x" * 17 + b"\n" + b"x" * 16 + b"\n",
            b"x" * 16 + CUT_MARK + b"\n" + b"x" * 16 + b"\n",
            id="too long is cut and marked",
        ),
    ],
)
def test_bytes_become_lines(written: bytes, lines: bytes) -> None:
    splitter = Splitter(limit_bytes=16)
    assert splitter.feed(written) == lines


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"x: unparsed y output: Dear Bob,\rPRIVATE\nPRIVATE\nsrv  x: y\n", b"[redacted]\nsrv  x: y\n"),
        (b"50%\rtoken=PRIVATE\rgone\n", b"50%\ntoken=[redacted]\ngone\n"),
    ],
)
def test_a_carriage_return_uncovers_nothing_private(written: bytes, shown: bytes) -> None:
    lines = screen(Splitter(needs_whole=is_candidate).feed(written)).data
    assert b"PRIVATE" not in lines
    assert lines.endswith(shown)


def test_a_line_that_never_ends_takes_bounded_memory_and_is_counted_once() -> None:
    splitter = Splitter(limit_bytes=8)
    fed = [splitter.feed(b"x" * 1000) for _ in range(3)]
    assert fed == [b"", b"", b""]
    assert len(splitter.partial) == 9
    assert splitter.feed(b"\nnext\n") == b"xxxxxxxx" + CUT_MARK + b"\nnext\n"
    assert splitter.cut_lines == 1


def test_a_pause_shows_the_dots_of_a_load_and_the_rest_follows_as_a_line() -> None:
    splitter = Splitter()
    splitter.feed(b"....")
    assert splitter.flush() == b"....\n"
    assert splitter.flush() == b""
    assert splitter.feed(b"..\nnext\n") == b"..\nnext\n"


def test_a_flushed_line_whose_end_comes_late_leaves_no_empty_line() -> None:
    splitter = Splitter()
    splitter.feed(b"....")
    splitter.flush()
    assert splitter.feed(b"\nnext\n") == b"next\n"


def test_a_line_that_may_hold_a_secret_is_never_flushed_half() -> None:
    splitter = Splitter(needs_whole=is_candidate)
    splitter.feed(b"token=")
    assert splitter.flush() == b""
    assert splitter.feed(b"abc\n") == b"token=abc\n"


def test_a_line_comes_again_as_a_whole_when_only_its_rest_made_it_private() -> None:
    splitter = Splitter(needs_whole=is_candidate)
    splitter.feed(b"Author")
    assert splitter.flush() == b"Author\n"
    assert splitter.feed(b"ization: Bearer abcdefgh\n") == b"Authorization: Bearer abcdefgh\n"


def test_the_end_of_the_stream_gives_the_line_without_an_end() -> None:
    splitter = Splitter(needs_whole=is_candidate)
    splitter.feed(b"Error: listen tcp")
    assert splitter.end() == b"Error: listen tcp\n"
    assert splitter.end() == b""


def test_a_stream_entered_in_the_middle_begins_with_its_next_line() -> None:
    splitter = Splitter()
    splitter.feed(b"old par")
    splitter.skip_line()
    assert splitter.feed(b"tial, still ") == b""
    assert splitter.feed(b"that\nwhole\n") == b"whole\n"


def test_a_block_is_cut_into_pieces_at_line_ends() -> None:
    block = b"aa\n" * 5 + b"long" * 5 + b"\nb\n"
    parts = list(pieces(block, 7))
    assert b"".join(parts) == block
    assert parts[0] == b"aa\naa\n"
    assert all(part.endswith(b"\n") for part in parts)
