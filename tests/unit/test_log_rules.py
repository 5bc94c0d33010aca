"""Guards what a log line is taken for: health may never degrade by a false alarm (contract, promise 5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from arasul_supervisor.logs.meaning.classify import classify, explain_exit
from arasul_supervisor.logs.meaning.levels import parse_level
from arasul_supervisor.logs.meaning.outcome_table import document
from arasul_supervisor.logs.meaning.outcomes import OUTCOMES
from arasul_supervisor.logs.meaning.prefilter import candidate_lines, is_candidate
from arasul_supervisor.logs.meaning.rules import FALSE_ALARMS, GIN_RULES, RAW_RULES, SLOG_RULES, Rule
from tests.unit.log_lines import BLOB, HEAD, SILENT, TELLING, WAITING

DOCUMENT = Path(__file__).parents[2] / "docs" / "outcomes.md"
RULES = (*SLOG_RULES, *RAW_RULES, *GIN_RULES)
SEEN_BY_THE_DAEMON = {"runner_oom_killed", "log_unwritable", "log_unreadable"}


@pytest.mark.parametrize(("outcome", "line"), TELLING)
def test_a_line_worth_a_rule_is_known(outcome: str, line: str) -> None:
    match = classify(line)

    assert match is not None
    assert (match.outcome, match.waits) == (outcome, False)


@pytest.mark.parametrize(("outcome", "line"), WAITING)
def test_a_reason_waits_for_its_verdict(outcome: str, line: str) -> None:
    match = classify(line)

    assert match is not None
    assert (match.outcome, match.waits) == (outcome, True)


@pytest.mark.parametrize("line", [line for _, line in (*TELLING, *WAITING)])
def test_the_prefilter_lets_every_line_of_a_rule_through(line: str) -> None:
    block = f"before\n{line}\nafter\n".encode()

    assert candidate_lines(block) == [(7, 7 + len(line.encode()))]
    assert is_candidate(line.encode())


@pytest.mark.parametrize("line", SILENT)
def test_a_false_alarm_never_counts(line: str) -> None:
    assert classify(line) is None


def test_every_rule_has_a_line_that_only_it_explains() -> None:
    lines = [line for _, line in (*TELLING, *WAITING)]
    deciding = {id(rule) for line in lines if (rule := deciding_rule(line))}

    assert [rule.pattern.pattern for rule in RULES if id(rule) not in deciding] == []


def test_every_false_alarm_has_a_line() -> None:
    unused = [alarm.pattern for alarm in FALSE_ALARMS if not any(alarm.search(line) for line in SILENT)]

    assert unused == []


def test_every_rule_tells_a_known_outcome_and_every_outcome_has_a_rule() -> None:
    assert {rule.outcome for rule in RULES} == set(OUTCOMES) - SEEN_BY_THE_DAEMON


def test_the_page_of_outcomes_is_printed_from_the_tables() -> None:
    assert DOCUMENT.read_text() == document()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.outcome)
def test_what_counts_is_said_in_a_sentence(rule: Rule) -> None:
    is_step = OUTCOMES[rule.outcome].severity == "step"

    assert bool(rule.sentence) != is_step


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        pytest.param(WAITING[8][1], {"device": "CUDA0", "bytes": "12"}, id="device and bytes"),
        pytest.param(WAITING[7][1], {"size": "9 MiB", "device": "0"}, id="size"),
        pytest.param(
            HEAD + '"llama-server process no longer running" sys=11 string="signal: segmentation fault"',
            {"code": "11", "signal": "signal: segmentation fault"},
            id="code",
        ),
        pytest.param(
            HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1"',
            {"model": "sha256-66c7a7145cb0", "why": "exit status 1"},
            id="model",
        ),
        pytest.param(
            HEAD + r'"failed to create server" model=x error="a \"b\" c\nsecond line"',
            {"model": "x", "why": 'a "b" c'},
            id="quotes and lines of Go",
        ),
        pytest.param(
            HEAD + r'"failed to load model metadata" model=/b error="read GGUF metadata \"/b\": EOF"',
            {"model": "/b", "why": "EOF"},
            id="the reason without the path before it",
        ),
    ],
)
def test_fields_are_taken_from_the_line(line: str, fields: dict[str, str]) -> None:
    match = classify(line)

    assert match is not None
    assert match.fields == fields


def test_a_sentence_without_all_its_fields_can_still_be_read() -> None:
    match = classify(HEAD + '"Load failed"')

    assert match is not None
    assert match.sentence == "A model could not be loaded: ?"


def test_a_sentence_names_what_the_line_names() -> None:
    match = classify("Error: listen tcp 127.0.0.1:11434: bind: address already in use")
    assert match is not None
    assert match.fields == {"address": "127.0.0.1:11434"}
    assert match.sentence.startswith("Ollama cannot listen on 127.0.0.1:11434: another program holds it.")


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        pytest.param(
            [HEAD + '"server config"', TELLING[0][1]], "port_in_use", id="the reason is the last line"
        ),
        pytest.param(
            ["panic: $HOME is not defined", "", "goroutine 1 [running]:", "\tmain.go:12 +0x13"],
            "home_unset",
            id="the reason stands above a stack",
        ),
        pytest.param(
            ["Error: quite new", HEAD + '"bad manifest" name=x error=y'], "start_failed", id="unknown reason"
        ),
        pytest.param(["panic: boom", "Error: x"], "start_failed", id="Error beats panic"),
        pytest.param(["panic: boom", "goroutine 1 [running]:"], "panic", id="a panic alone"),
    ],
)
def test_the_last_lines_explain_a_failed_start(lines: list[str], outcome: str) -> None:
    explained = explain_exit(lines)
    assert explained is not None
    assert explained[0] == outcome


def test_lines_that_explain_nothing_give_nothing() -> None:
    assert explain_exit([HEAD + '"server config"', "", TELLING[-1][1]]) is None


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (HEAD + '"x"', "info"),
        (HEAD.replace("INFO", "WARN") + '"x"', "warning"),
        (HEAD.replace("INFO", "ERROR") + '"x"', "error"),
        (HEAD.replace("INFO", "DEBUG-4") + '"x"', "debug"),
        (HEAD.replace("INFO", "TRACE") + '"x"', "debug"),
        ("Error: x", "error"),
        ("panic: x", "error"),
        ('[GIN] 2026/11/23 - 16:00:35 | 200 | 1µs | ::1 | GET "/"', "info"),
        ('[GIN] 2026/11/23 - 16:00:35 |\x1b[90;43m 404 \x1b[0m| 1µs | ::1 | GET "/"', "warning"),
        ('[GIN] 2026/11/23 - 16:00:35 | 500 | 1µs | ::1 | GET "/"', "error"),
        ("[GIN-debug] [WARNING] Running in debug mode", "debug"),
        ("2026/11/23 07:39:30 config.go:51: WARN invalid port", "warning"),
        ("load_tensors: x", "info"),
        ("", "info"),
    ],
)
def test_a_line_says_its_own_level(line: str, level: str) -> None:
    assert parse_level(line) == level


def deciding_rule(line: str) -> Rule | None:
    """The first row that matches, as `classify` takes it."""
    text, start = line.removeprefix("\x1b[31m"), 0
    table: tuple[Rule, ...] = GIN_RULES if line.startswith("[GIN] ") else RAW_RULES
    if line.startswith("time="):
        table, start = SLOG_RULES, line.index(" msg=") + 5
    return next((rule for rule in table if rule.pattern.match(text, start)), None)
