"""Guards what the benches of answers read out of `wrk` and out of streams."""

from __future__ import annotations

import pytest

from bench.answers.stalls import in_parts
from bench.answers.stream_client import Stream, lines_in
from bench.answers.wrk import Load, parse_summary

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TWO_LINES = HEAD + b'a\r\n{"at_ns":1\r\n9\r\n7}\n{"at_n\r\n8\r\ns":200}\n\r\n0\r\n\r\n'


def test_the_last_line_of_a_run_of_wrk_tells_its_rate_delays_and_failures() -> None:
    text = (
        "Running 1s test\n  Socket errors: read 2\n\n"
        '{"duration_us":2000000,"requests":500,"p50_us":900,"p99_us":1500,"max_us":2000,"refused":3,"unanswered":2}\n'
    )
    assert parse_summary(text) == Load(250.0, 0.9, 1.5, 2.0, n_answers=500, n_refused=3, n_unanswered=2)


def test_a_line_that_two_chunks_share_is_one_line() -> None:
    assert lines_in([(1000, TWO_LINES)]) == ([1000, 1000], [17, 200])


@pytest.mark.parametrize(
    ("first_bytes", "expected_ns"),
    [
        pytest.param(len(HEAD) + 20, [2000, 2000], id="both end in the second piece"),
        pytest.param(TWO_LINES.index(b"}\n") + 2, [1000, 2000], id="the first ends with the first piece"),
        pytest.param(len(TWO_LINES) - 1, [1000, 1000], id="only the end of the answer is missing"),
    ],
)
def test_a_line_has_come_when_its_last_byte_has(first_bytes: int, expected_ns: list[int]) -> None:
    pieces = [(1000, TWO_LINES[:first_bytes]), (2000, TWO_LINES[first_bytes:])]
    assert lines_in(pieces)[0] == expected_ns


def test_lines_of_a_real_engine_name_no_instant() -> None:
    assert lines_in([(5, HEAD + b'b\r\n{"done":1}\n\r\n0\r\n\r\n')]) == ([5], [])


def test_an_answer_that_is_no_200_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="503"):
        lines_in([(5, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")])


def test_the_delay_of_a_line_is_from_its_writing_to_its_coming() -> None:
    stream = Stream(
        sent_ns=0, first_ns=1_000_000, came_ns=[2_000_000, 5_000_000], written_ns=[1_500_000, 3_000_000]
    )
    assert stream.delays_ms() == [0.5, 2.0]
    assert (stream.first_byte_ms, stream.first_line_ms, stream.whole_s) == (1.0, 2.0, 0.005)


def test_the_parts_of_a_run_are_in_order_and_lose_nothing() -> None:
    assert in_parts([1, 2, 3, 4, 5, 6, 7, 8, 9]) == [[1, 2], [3, 4], [5, 6], [7, 8, 9]]
