"""Guards that the same bytes give the same lines and findings however they arrive, and that no garbage harms."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from arasul_supervisor.logs.lines import Splitter, pieces
from arasul_supervisor.logs.meaning.classify import classify
from arasul_supervisor.logs.meaning.findings import Findings
from arasul_supervisor.logs.meaning.levels import parse_level
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.meaning.redaction import redact
from arasul_supervisor.logs.meaning.screen import Between, screen
from tests.unit.log_lines import SILENT, TELLING, WAITING

if TYPE_CHECKING:
    from arasul_supervisor.logs.meaning.finding import Finding

WORDS = st.sampled_from(
    [
        b"\n", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b" ", b"x" * 40, b"Error: ", b"panic: ", b"CUDA error: oom",
        b"time=2026-11-23T07:32:48.871Z level=INFO source=s.go:1 msg=", b'"Load failed" error="x"', b"[GIN] 2026/11/23",
        b"common_chat_peg_parse: unparsed a output: ", b"srv  update_slots: ", b"http://u:p@h", b"token=abcdef",
        b"Authorization: Bearer abcdefg", b"HTTPS_PROXY:", b"@", b"://", b'"', b"\\", b"prompt=", b"[redacted]",
    ]
)  # fmt: skip
LOGGED = st.sampled_from(
    [line.encode() + b"\n" for line in (*(line for _, line in (*TELLING, *WAITING)), *SILENT)]
)
STACKS = st.sampled_from(
    [
        b"\n", b"goroutine 7 [running]:\n", b"main.main()\n", b"\t/src/main.go:12 +0x1d\n", b"[signal SIGSEGV]\n",
        b"  current device: 0, in function x at y.cu:1\n", b"x.cu:71: CUDA error\n", b"srv  init: strange\n",
        b"srv          init: init: chat template, example_format: 'Error: \n", b"'\n",
        b"srv          init: init: chat template, thinking = 0\n",
        b"common_chat_peg_parse: unparsed x output: secret\n",
    ]
)  # fmt: skip
SESSIONS = st.lists(LOGGED | STACKS | WORDS, max_size=40).map(b"".join)
STREAMS = st.lists(WORDS | st.binary(max_size=6), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 1500), max_size=12)


@given(STREAMS, CUTS)
@example(b"a\r\n", [2])
@example(b"x" * 65 + b"\n", [64, 65])
def test_any_split_of_a_stream_gives_the_same_lines(stream: bytes, cuts: list[int]) -> None:
    assert split(chunks(stream, cuts)) == split([stream])


@given(STREAMS, CUTS)
def test_any_split_of_a_stream_gives_the_same_shown_lines_and_findings(
    stream: bytes, cuts: list[int]
) -> None:
    assert examine(chunks(stream, cuts)) == examine([stream])


@given(SESSIONS, CUTS)
@example(b"panic: x\ncommon_chat_peg_parse: unparsed a output: [redacted]\n", [9])
def test_any_split_of_a_session_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert examine(chunks(stream, cuts)) == examine([stream])


@given(STREAMS)
def test_every_line_is_kept_in_number_and_order(stream: bytes) -> None:
    lines = split([stream])
    shown, *_ = examine([stream])
    assert (
        shown.count(b"\n")
        == lines.count(b"\n")
        == stream.count(b"\n") + (not stream.endswith(b"\n") and stream != b"")
    )


@given(STREAMS, st.integers(1, 200))
def test_pieces_lose_nothing(stream: bytes, size_bytes: int) -> None:
    block = split([stream])
    assert b"".join(pieces(block, size_bytes)) == block


@given(STREAMS, CUTS)
def test_a_pause_anywhere_never_shows_more_of_a_secret(stream: bytes, cuts: list[int]) -> None:
    secret = b"ABCDEFGH"
    line = stream.replace(b"\n", b" ") + b" password=" + secret + b" \n"
    splitter = Splitter(needs_whole=is_candidate)
    shown = b""
    for chunk in chunks(line, cuts):
        shown += screen(splitter.feed(chunk)).data
        shown += screen(splitter.flush()).data
    assert secret not in shown


@given(STREAMS.map(lambda stream: stream.decode(errors="surrogateescape")))
@example('prompt="a"\0')
@example("token=abcdefError: common_chat_peg_parse: unparsed a output: ")
def test_redaction_is_stable(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(STREAMS | st.binary())
def test_what_the_prefilter_holds_back_has_no_meaning_and_no_secret(stream: bytes) -> None:
    for line in split([stream]).split(b"\n"):
        text = line.decode(errors="surrogateescape")
        assert is_candidate(line) or (classify(text) is None and redact(text) == text)


@given(st.text())
def test_any_text_has_a_level(text: str) -> None:
    assert parse_level(text) in ("debug", "info", "warning", "error")


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(bounds)]


def split(parts: list[bytes]) -> bytes:
    splitter = Splitter(limit_bytes=64)
    return b"".join(splitter.feed(part) for part in parts) + splitter.end()


def examine(parts: list[bytes]) -> tuple[bytes, list[Finding], set[str]]:
    """What is shown, and what befell, of the bytes as they come."""
    splitter, findings, between = Splitter(limit_bytes=256), Findings(), Between()
    shown = b""
    for block in (*(splitter.feed(part) for part in parts), splitter.end()):
        screened = screen(block, between)
        between = screened.after
        findings.go_on(screened.lines.get(-1, ()))
        for index, match in screened.matches.items():
            findings.add(match, mono=0.0, at=0.0, lines=screened.lines[index])
        shown += screened.data
    return shown, sorted(findings.newest_first(), key=repr), findings.marks
