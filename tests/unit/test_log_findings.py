"""Guards that one fault is one event, by its most telling name, and that a healthy life makes none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.logs.meaning.classify import classify
from arasul_supervisor.logs.meaning.findings import Findings

if TYPE_CHECKING:
    from arasul_supervisor.logs.meaning.finding import Finding

HEAD = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="
LOADING = HEAD + '"starting llama-server" cmd="/opt/llama-server --model /m/blobs/sha256-aa --port 41007"'
LOADING_B = HEAD + '"starting llama-server" cmd="/opt/llama-server --model /m/blobs/sha256-bb --port 41008"'
LOADED = HEAD + '"llama-server started in 2.0 seconds"'
LOAD_FAILED = HEAD + '"Load failed" model=/m/blobs/sha256-aa error="exit status 1"'
ENDED = HEAD + '"llama-server terminated" error="exit status 1" exit=1'
NO_LONGER = HEAD + '"llama-server process no longer running" sys=9 string="signal: killed"'
NO_ANSWER_A = (
    HEAD + r'"llama-server completion error" error="Post \"http://127.0.0.1:41007/completion\": EOF"'
)
NO_ANSWER_B = (
    HEAD + r'"llama-server completion error" error="Post \"http://127.0.0.1:41008/completion\": EOF"'
)
UNLOADED = HEAD + '"llama-server terminated" error="signal: killed" exit=unknown'
ABANDONED = HEAD + '"client connection closed before llama-server finished loading, aborting load"'
NO_MEMORY = "CUDA error: out of memory"
DAMAGED = "llama_model_load: error loading model: missing tensor 'x'"
MANIFEST = HEAD + '"bad manifest" name=a error=EOF'
MISSING = (
    HEAD + '"failed to load model metadata" model=/m/blobs/sha256-aa '
    'error="open /m/blobs/sha256-aa: no such file or directory"'
)
UNREADABLE = (
    HEAD + '"couldn\'t read model metadata" error="open /m/blobs/sha256-aa: no such file or directory"'
)
UNREADABLE_B = (
    HEAD + '"couldn\'t read model metadata" error="open /m/blobs/sha256-bb: no such file or directory"'
)
UNNAMED = HEAD + '"couldn\'t read model metadata" error=EOF'
STALLED = HEAD + '"c88366da3c1f part 0 stalled; retrying. If this persists"'
DOWNLOADING = HEAD + '"downloading c88366da3c1f in 1 450 KB part(s)"'
FULL = HEAD + '"x" error="write /s: no space left on device"'
NO_RUNNER = HEAD + '"failed to create server" model=x error="llama-server binary not found (checked: /x)"'
IN_USE = "Error: listen tcp 127.0.0.1:11434: bind: address already in use"


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        pytest.param([LOADING, NO_MEMORY, LOADED], {}, id="an allocation that fails while a layout is tried"),
        pytest.param([LOADING, DAMAGED, UNLOADED, LOADED], {}, id="a reason without a verdict"),
        pytest.param([LOADING, LOADED, UNLOADED], {}, id="Ollama's own unload"),
        pytest.param([LOADING, NO_MEMORY, ENDED, LOAD_FAILED], {"out_of_memory": 1}, id="too large"),
        pytest.param([LOADING, DAMAGED, DAMAGED, ENDED, LOAD_FAILED], {"model_damaged": 1}, id="damaged"),
        pytest.param([LOADING, ENDED, LOAD_FAILED], {"load_failed": 1}, id="a load that fails"),
        pytest.param([LOADING, LOADED, ENDED], {}, id="an end that no verdict follows yet"),
        pytest.param([LOADING, LOADED, UNLOADED, "panic: x"], {"panic": 1}, id="a panic after an unload"),
        pytest.param([LOAD_FAILED, LOAD_FAILED], {"load_failed": 2}, id="two loads that fail"),
        pytest.param([LOADING, LOADED, NO_LONGER, NO_LONGER, LOADING], {"runner_died": 1}, id="a death"),
        pytest.param([LOADING, NO_LONGER, *[NO_LONGER] * 99], {"runner_died": 1}, id="told a hundred times"),
        pytest.param(
            [LOADING, LOADED, NO_LONGER, LOADING, LOADED, NO_LONGER], {"runner_died": 2}, id="two deaths"
        ),
        pytest.param(
            [LOADING, LOADED, LOADING_B, LOADED, NO_ANSWER_A, NO_ANSWER_B],
            {"runner_died": 2},
            id="two models that die at once",
        ),
        pytest.param(
            [LOADING, LOADED, NO_ANSWER_A, NO_LONGER, LOADING], {"runner_died": 1}, id="a death told twice"
        ),
        pytest.param(
            [LOADING, LOADED, LOADING_B, LOADED, NO_ANSWER_A, *[""] * 60, NO_LONGER, LOADING],
            {"runner_died": 1},
            id="a death told again by the next request, a minute later",
        ),
        pytest.param(
            [LOADING, LOADED, LOADING_B, LOADED, NO_ANSWER_A, *[""] * 60, NO_LONGER, LOADING_B],
            {"runner_died": 2},
            id="another's death a minute later",
        ),
        pytest.param([NO_MEMORY, *[""] * 90, "panic: x"], {"panic": 1}, id="a reason of long ago"),
        pytest.param([MANIFEST, *[""] * 300, MANIFEST], {}, id="two manifests that were being written"),
        pytest.param([LOADING, ABANDONED, LOAD_FAILED], {"load_abandoned": 1}, id="the client left"),
        pytest.param([LOADING, NO_LONGER, ABANDONED], {"runner_died": 1}, id="the client left a dead runner"),
        pytest.param([LOADING, "panic: x", ENDED], {"runner_died": 1}, id="a Go runner's panic"),
        pytest.param([LOADING, LOADED, "panic: x", LOADING], {"runner_died": 1}, id="the server goes on"),
        pytest.param([LOADING, LOADED, "panic: x"], {"panic": 1}, id="the server's panic"),
        pytest.param([STALLED, STALLED], {"pull_stalled": 1}, id="two parts of one download"),
        pytest.param(
            [DOWNLOADING, STALLED, DOWNLOADING, STALLED], {"pull_stalled": 2}, id="a download begun anew"
        ),
        pytest.param([MANIFEST], {}, id="a manifest in the instant it is written"),
        pytest.param([MANIFEST, "", "", MANIFEST, MANIFEST], {"manifest_damaged": 1}, id="a damaged one"),
        pytest.param(
            [UNREADABLE, "", "", UNREADABLE], {"model_unreadable": 1}, id="a listing meets a lost file"
        ),
        pytest.param(
            [MISSING, UNREADABLE, UNNAMED, "", "", UNREADABLE, UNNAMED],
            {"model_missing": 1},
            id="a listing meets the file that a load has failed for",
        ),
        pytest.param(
            [MISSING, UNREADABLE_B, "", "", UNREADABLE_B],
            {"model_missing": 1, "model_unreadable": 1},
            id="a listing meets another lost file",
        ),
        pytest.param([IN_USE], {"port_in_use": 1}, id="a start that fails"),
        pytest.param(
            [HEAD + '"Listening on 127.0.0.1:1 (version 1)"', IN_USE],
            {},
            id="a model's text like a failed start",
        ),
    ],
)
def test_one_fault_is_one_event(lines: list[str], events: dict[str, int]) -> None:
    findings = findings_of(lines)

    assert {found.outcome: count_of(findings, found.outcome) for found in findings} == events


@pytest.mark.parametrize(
    ("lines", "deaths"),
    [
        pytest.param([NO_ANSWER_A, NO_LONGER, NO_LONGER, LOADING], 0, id="amid an answer"),
        pytest.param([*[""] * 60, NO_LONGER, NO_LONGER, LOADING], 0, id="met a minute later"),
        pytest.param([*[""] * 60, NO_ANSWER_A], 1, id="another end, a minute later"),
        pytest.param([*[""] * 60, NO_LONGER, LOADING, LOADED, *[""] * 60, NO_LONGER], 1, id="one too many"),
        pytest.param([NO_MEMORY, LOAD_FAILED], 1, id="a load that fails for a reason"),
    ],
)
def test_a_runner_that_we_end_is_no_fault_and_others_are(lines: list[str], deaths: int) -> None:
    findings = Findings()
    findings.expect_deaths(0.0, later=1)

    feed(findings, [LOADING, LOADED, *lines])

    assert sum(found.count for found in findings.newest_first()) == deaths


def test_an_event_keeps_the_lines_that_tell_of_it() -> None:
    (event,) = findings_of([LOADING, DAMAGED, ENDED, LOAD_FAILED])

    assert event.lines == (DAMAGED, ENDED, LOAD_FAILED)


def test_an_event_names_the_model_that_was_being_loaded() -> None:
    (event,) = findings_of([LOADING, LOADED, NO_ANSWER_A])

    assert event.subject == "sha256-aa"


def test_a_crash_of_a_runner_keeps_the_reason_of_the_panic() -> None:
    (event,) = findings_of([LOADING, "panic: index out of range", ENDED])

    assert event.sentence == "A model runner crashed (index out of range); the next request starts another."


def test_a_good_load_of_the_same_model_cures() -> None:
    (event,) = findings_of([LOADING, LOAD_FAILED, LOADING, LOADED])

    assert event.is_cured


def test_a_good_load_of_another_model_cures_nothing() -> None:
    (event,) = findings_of([LOADING, LOAD_FAILED, LOADING_B, LOADED])

    assert not event.is_cured


@pytest.mark.parametrize("line", [NO_RUNNER, "CUDA error: unknown error"])
def test_what_lasts_as_long_as_the_engine_ends_with_a_good_load_where_that_disproves_it(line: str) -> None:
    (event,) = findings_of([LOADING, line, LOADING, LOADED])

    assert event.is_cured


def test_what_befalls_again_is_no_longer_cured() -> None:
    (event,) = findings_of([LOADING, LOAD_FAILED, LOADING, LOADED, LOADING, LOAD_FAILED])

    assert (event.count, event.is_cured) == (2, False)


def test_lines_of_a_stack_join_the_event_before_them() -> None:
    findings = Findings()
    match = classify("panic: x")
    assert match is not None
    findings.add(match, mono=0.0, at=0.0, lines=("panic: x",))
    findings.go_on(("goroutine 1 [running]:",))

    assert findings.newest_first()[0].lines == ("panic: x", "goroutine 1 [running]:")


@pytest.mark.parametrize(
    ("lines", "news"),
    [
        pytest.param(
            [LOADING, DAMAGED, ENDED, LOAD_FAILED],
            [None, None, "model_damaged", None],
            id="a reason, then two verdicts",
        ),
        pytest.param(
            [LOADING, ENDED, LOAD_FAILED], [None, None, "load_failed"], id="the end of a runner, then why"
        ),
        pytest.param(
            [LOADING, LOADED, NO_ANSWER_A, *[""] * 60, NO_LONGER, LOADING],
            [None, None, "runner_died", None, None],
            id="a death that a later request meets again",
        ),
        pytest.param(
            [LOADING, LOADED, LOADING_B, LOADED, NO_ANSWER_A, *[""] * 60, NO_LONGER, LOADING_B],
            [*[None] * 4, "runner_died", None, "runner_died"],
            id="another's death, told once its model is named",
        ),
        pytest.param([FULL, *[""] * 60, FULL], ["disk_full", None], id="a disk that is still full"),
        pytest.param([FULL, *[""] * 400, FULL], ["disk_full", "disk_full"], id="a disk that is full again"),
        pytest.param(
            [NO_RUNNER, LOADING, LOADED, NO_RUNNER],
            ["runner_missing", None, None, "runner_missing"],
            id="a runner that was put there and is gone again",
        ),
    ],
)
def test_only_what_befell_anew_is_news(lines: list[str], news: list[str | None]) -> None:
    findings = Findings()
    told = [
        told.finding.outcome if told and told.is_news else None
        for second, line in enumerate(lines)
        if (match := classify(line))
        for told in (findings.add(match, mono=float(second), at=0.0, lines=(line,)),)
    ]

    assert told == news


def test_the_number_of_findings_is_bounded() -> None:
    ignored = '"invalid environment variable, using default" key=K'
    findings = findings_of([f"{HEAD}{ignored}{n} value=x default=1" for n in range(300)])

    assert len(findings) == 100


def findings_of(lines: list[str]) -> tuple[Finding, ...]:
    """What befell, a second between two lines."""
    findings = Findings()
    feed(findings, lines)
    return findings.newest_first()


def feed(findings: Findings, lines: list[str]) -> None:
    """Line by line, a second between two."""
    for second, line in enumerate(lines):
        match = classify(line)
        if match:
            findings.add(match, mono=float(second), at=0.0, lines=(line,))


def count_of(findings: tuple[Finding, ...], outcome: str) -> int:
    """How often it befell, over all subjects."""
    return sum(found.count for found in findings if found.outcome == outcome)
