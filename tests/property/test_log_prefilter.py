"""Guards that the prefilter lets too much through, never too little."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from arasul_supervisor.logs.meaning.classify import classify
from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.meaning.redaction import redact
from tests.unit.log_lines import SILENT, TELLING, WAITING

LINES = st.sampled_from([*(line for _, line in (*TELLING, *WAITING)), *SILENT])
# fmt: off
WORDS = st.sampled_from([
    "", "", " ", "=", ":", '"', "\\", "\u00a0", "[", "1 '<s>'", "abcdefgh", "12ab", "a:b@h", "://", "@",
    "https://h/b?", "&sig=", "sv=2024-", "?verify=", "Policy=x&Signature=",
    "token", "TOKEN = ", "api_key", "secret", "password", "passwd", "Authorization", "Bearer ",
    "hf_abcdefghijklmnopqrst", "x-amz-credential=", "X-Amz-Signature=", "x-amz-security-token=", "_proxy=",
    " content=", " header=", " action=", "parsing failed", "token in ATEM", "Cookie: ",
    "prompt=", "Parsed message: ", "unparsed x output: ", "time=1 level=TRACE source=a msg=b ",
    "time=1 level=DEBUG-4 source=a msg=b ", "error", "Error: ", "failed to allocate", "unable to allocate",
    "out of memory", "not enough memory", "f: ", "panic: ", "panic recovered", 'running" sys=9', "503 |",
    "time=1 level=INFO source=a msg=", '"llama-server terminated" error=',
])
# fmt: on


@given(LINES | st.just(""), st.lists(WORDS, max_size=6).map("".join))
@example("", "message:Authorization[Recovery]")
@example("", "Bearer\u00a0abcdefg")
@example("", "passwd=hunter2")
@example("", "alloc_buffer: unable to allocate CUDA0 buffer")
@example("", "token = 12ab")
def test_what_no_gate_lets_through_means_nothing_and_hides_nothing(line: str, words: str) -> None:
    text = line + words
    is_without_note = redact(text) == text and classify(text) is None
    assert is_without_note or is_candidate(text.encode())
