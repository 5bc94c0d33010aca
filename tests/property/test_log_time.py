"""Guards that no line, however hostile, costs more than its length: a rule may never take super-linear time."""

from __future__ import annotations

import re
import time
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arasul_supervisor.logs.meaning.blocks import CONTINUES
from arasul_supervisor.logs.meaning.classify import SLOG
from arasul_supervisor.logs.meaning.levels import parse_level
from arasul_supervisor.logs.meaning.prefilter import candidate_lines
from arasul_supervisor.logs.meaning.redaction import begins_private_block, redact
from arasul_supervisor.logs.meaning.rules import (
    FALSE_ALARMS,
    GIN_RULES,
    RAW_RULES,
    SLOG_RULES,
    TEMPLATE_BEGINS,
    TEMPLATE_ENDS,
)
from tests.unit.log_lines import HEAD, SILENT, TELLING, WAITING

LINE_CHARS = 16 * 1024  # twice what the rules are ever given
LIMIT_S = 0.3  # a quadratic pattern takes 0.7 to 2.5 s of this length, all linear ones together 0.03 s
TURNS = 4  # so that each test stays far below its limit
LINES = [*(line for _, line in (*TELLING, *WAITING)), *SILENT]
WORDS = sorted(
    set(chain.from_iterable(re.split(r"(?<=[ :=\"(/])", line) for line in LINES)) - {""}
    | {"a", "/", "/blobs/", "a/", " model=", " --model x", ": ", '\\\\"'}
)
HEADS = (
    *("", HEAD, "srv  init: ", "CUDA error: "),
    *(
        HEAD + '"Load failed" model=',
        HEAD + '"Load failed" model=/m/blobs/x error="',
        HEAD + '"request failed: ',
    ),
    *(
        HEAD + '"starting llama-server" cmd="x --model ',
        HEAD + '"couldn\'t read model metadata" error="open ',
    ),
)


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_line_of_one_word_repeated_is_read_in_linear_time(turn: int) -> None:
    slow = [(word, spent_s) for word in WORDS[turn::TURNS] if (spent_s := reading_s(word)) > LIMIT_S]

    assert slow == []


@settings(max_examples=40)
@given(st.lists(st.sampled_from(WORDS), min_size=2, max_size=4).map("".join))
def test_a_line_of_a_few_words_repeated_is_read_in_linear_time(words: str) -> None:
    assert reading_s(words) <= LIMIT_S


def reading_s(word: str) -> float:
    """Processor seconds that every pattern of the log's reading takes for lines of this word, one after the other."""
    repeated = word * (LINE_CHARS // len(word))
    began_s = time.process_time()
    for head in HEADS:
        text = head + repeated
        start = len(HEAD) if head.startswith(HEAD) else 0
        for rule in (*SLOG_RULES, *RAW_RULES, *GIN_RULES):
            rule.pattern.match(text, start)
        for searched in FALSE_ALARMS:
            searched.search(text)
        for matched in (CONTINUES, SLOG, TEMPLATE_BEGINS):
            matched.match(text)
        parse_level(text)
        redact(text)
        begins_private_block(text)
        candidate_lines(text.encode())
        TEMPLATE_ENDS.search(text.encode())
    return time.process_time() - began_s
