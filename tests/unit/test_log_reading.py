"""Guards what is told of a generation: once, in time, and not of what we do ourselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from arasul_supervisor.logs.meaning.reading import Reading

if TYPE_CHECKING:
    from arasul_supervisor.logs.meaning.finding import Finding

DIED = b'time=1 level=INFO source=x.go:1 msg="llama-server process no longer running" sys=9 string="signal: killed"\n'
ENDED = b'time=1 level=INFO source=x.go:1 msg="llama-server terminated" error="exit status 1" exit=1\n'
LISTENING = b'time=1 level=INFO source=x.go:1 msg="Listening on 127.0.0.1:1 (version 0.34.4)"\n'
FULL = b"[GIN] 2026/11/23 - 16:00:35 | 503 | 12us | 127.0.0.1 | POST /api/chat\n"
RETRIED = b'time=1 level=INFO source=x.go:1 msg="c88366da3c1f part 0 attempt 0 failed: EOF, retrying in 1s"\n'


class Told:
    """A reading of generation 1, and what it told."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []
        self.reading = Reading(self._tell)
        self.reading.begin(1)

    def _tell(self, generation: int, finding: Finding) -> None:
        self.events.append((generation, finding.outcome))


def test_what_befell_is_told() -> None:
    told = Told()
    told.reading.read(1, DIED, at=0.0, mono=0.0)

    assert told.events == [(1, "runner_died")]


def test_the_same_is_told_once_a_minute() -> None:
    told = Told()
    for mono in (0.0, 30.0, 59.0, 60.0, 90.0):
        told.reading.read(1, FULL, at=0.0, mono=mono)

    assert len(told.events) == 2
    assert told.reading.findings(1)[0].count == 5


def test_what_is_harmless_is_kept_and_not_told() -> None:
    told = Told()
    told.reading.read(1, RETRIED, at=0.0, mono=0.0)

    assert told.events == []
    assert [found.outcome for found in told.reading.findings(1)] == ["pull_retried"]


def test_runners_that_die_with_an_engine_that_we_end_are_no_fault() -> None:
    told = Told()
    told.reading.expect_end(1)
    screened = told.reading.read(1, DIED + FULL, at=0.0, mono=0.0)

    assert told.events == [(1, "too_many_requests")]
    assert [match.outcome for match in screened.matches.values()] == ["too_many_requests"]


def test_the_outcomes_of_an_earlier_life_do_not_count() -> None:
    told = Told()
    screened = told.reading.read(0, DIED, at=0.0, mono=0.0)

    assert len(screened.matches) == 1
    assert (told.events, told.reading.findings(0)) == ([], ())


def test_the_errors_of_one_generation_do_not_haunt_the_next() -> None:
    told = Told()
    told.reading.read(1, DIED, at=0.0, mono=0.0)
    told.reading.begin(2)

    assert told.reading.findings(2) == ()


def test_text_that_nobody_may_see_ends_with_its_generation() -> None:
    told = Told()
    told.reading.read(1, b"x: unparsed y output: secret\nmore\n", at=0.0, mono=0.0)
    told.reading.begin(2)

    assert told.reading.left_private(1)
    assert told.reading.read(2, b"fine\n", at=0.0, mono=0.0).data == b"fine\n"


def test_a_line_is_shown_as_what_it_was_found_to_tell() -> None:
    told = Told()
    block = b"CUDA error: out of memory\n" + ENDED
    screened = told.reading.read(1, block, at=0.0, mono=0.0)

    assert {n: match.outcome for n, match in screened.matches.items()} == {1: "out_of_memory"}
    assert not screened.matches[1].waits


def test_what_counts_for_nothing_is_shown_as_nothing() -> None:
    told = Told()
    screened = told.reading.read(1, LISTENING + b"Error: a template speaks\n", at=0.0, mono=0.0)

    assert {n: match.outcome for n, match in screened.matches.items()} == {0: "listening"}


def test_bytes_that_are_no_utf8_can_be_told_as_json() -> None:
    told = Told()
    told.reading.read(1, b"panic: bad \xe8 name\n", at=0.0, mono=0.0)
    (found,) = told.reading.findings(1)

    assert json.loads(msgspec.json.encode(found))["sentence"] == "Ollama crashed: bad \ufffd name"
