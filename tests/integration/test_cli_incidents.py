"""Guards `incidents` and `quarantine`: a table, all about one, and the way back, against a real HTTP server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from arasul_supervisor.cli import main
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    from tests.integration.cli_daemon import DaemonDouble

CURED: Final = {
    "id": "20261129T081203Z-1",
    "at": "2026-11-29T08:12:03.250Z",
    "kind": "runner_stuck",
    "what": "The runner of tiny stands still.",
    "evidence": "No token for 12 s, and no CPU tick.",
    "action": "runner_killed",
    "result": "cured",
    "detail": "It answers.\x1b[2J",
    "model": "tiny",
    "downtime_s": 1.23,
    "count": 3,
    "last_at": "2026-11-29T08:13:00.000Z",
    "ended_at": "2026-11-29T08:13:05.000Z",
    "log_tail": ["time=… msg=one", "two\x1b[2J"],
}
SPARSE: Final = {"id": "20261129T081203Z-2", "at": None, "kind": "memory_low", "downtime_s": 75.0}
DETAIL: Final = {
    **CURED,
    "generation": 3,
    "steps": [
        {"at": "2026-11-29T08:12:03.250Z", "action": "continued", "detail": "SIGCONT to pid 7."},
        {"at": "2026-11-29T08:12:05.250Z", "action": "runner_killed", "detail": ""},
    ],
    "witnesses_before": {"cpu_ticks": 7, "gpu_load_percent": None, "state": "T"},
    "witnesses_after": {"cpu_ticks": 9, "load": 0.123456789},
}
POISON: Final = {
    "name": "hf.co/a/b:q4",
    "reason": "The engine died 3 times.",
    "crashes": 3,
    "since_at": "2026-11-29T08:12:03Z",
}
LIFT: Final = "/api/models/quarantine/hf.co%2Fa%2Fb%3Aq4"


def test_the_incidents_are_a_table(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/incidents", {"incidents": [SPARSE, CURED], "count": 2})

    assert main(["incidents", "-n", "7"]) == 0

    heads, sparse, cured = (line.split() for line in capsys.readouterr().out.splitlines())
    assert daemon.asked[0].target == "/api/incidents?limit=7"
    assert heads == ["ID", "WHEN", "KIND", "MODEL", "ACTION", "RESULT", "DOWNTIME"]
    assert sparse == ["20261129T081203Z-2", "unknown", "memory_low", "1", "min", "15", "s"]
    assert " ".join(cured) == (
        "20261129T081203Z-1 2026-11-29 08:12:03 UTC runner_stuck ×3 tiny runner_killed cured 1.2 s"
    )


def test_no_incident_is_a_sentence(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/incidents", {"incidents": [], "count": 0})

    assert main(["incidents"]) == 0
    assert capsys.readouterr().out == "No incident is known.\n"


def test_one_incident_is_told_in_full(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", f"/api/incidents/{CURED['id']}", DETAIL)

    assert main(["incidents", str(CURED["id"])]) == 0

    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "incident    20261129T081203Z-1",
        "when        2026-11-29 08:12:03 UTC",
        "count       3, the last at 2026-11-29 08:13:00 UTC",
        "kind        runner_stuck",
        "model       tiny",
        "what        The runner of tiny stands still.",
        "evidence    No token for 12 s, and no CPU tick.",
        "action      runner_killed",
        "result      cured",
        "detail      It answers.\\x1b[2J",
        "ended       2026-11-29 08:13:05 UTC",
        "downtime    1.2 s",
        "generation  3",
        "",
        "What was done:",
        "2026-11-29 08:12:03 UTC  continued: SIGCONT to pid 7.",
        "2026-11-29 08:12:05 UTC  runner_killed",
        "",
        "WITNESS           BEFORE   AFTER",
        "cpu_ticks         7        9",
        "gpu_load_percent  unknown",
        "state             T",
        "load                       0.123457",
        "",
        "What the engine said last:",
        "time=… msg=one",
        "two\\x1b[2J",
    ]


def test_an_incident_with_nothing_more_to_tell_is_told_without_empty_parts(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/incidents/x", SPARSE)

    assert main(["incidents", "x"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "incident",
        "when",
        "kind",
        "downtime",
    ]


@pytest.mark.parametrize(("words", "path"), [((), "/api/incidents"), (("x",), "/api/incidents/x")])
def test_incidents_in_json_are_the_answer_itself(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], path: str
) -> None:
    daemon.says("GET", path, DETAIL)

    assert main(["incidents", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out) == DETAIL


def test_an_unknown_incident_is_an_error_in_the_daemons_words(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/incidents/a%2Fb", {"error": "No incident 'a/b' is known."}, status=404)

    assert main(["incidents", "a/b"]) == 1
    assert capsys.readouterr() == ("", "arasul-supervisor: No incident 'a/b' is known.\n")


@pytest.mark.parametrize("count", ["0", "201", "x"])
def test_a_count_that_the_daemon_would_refuse_is_wrong_usage(count: str) -> None:
    assert main(["incidents", "-n", count]) == 2


@pytest.mark.parametrize("words", [["quarantine"], ["quarantine", "list"]])
def test_the_quarantine_is_a_table(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    daemon.says("GET", "/api/models/quarantine", {"quarantined": [POISON], "count": 1})

    assert main(words) == 0

    heads, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert heads == ["MODEL", "SINCE", "CRASHES", "REASON"]
    assert " ".join(row) == "hf.co/a/b:q4 2026-11-29 08:12:03 UTC 3 The engine died 3 times."


def test_an_empty_quarantine_is_a_sentence(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/models/quarantine", {"quarantined": [], "count": 0})

    assert main(["quarantine"]) == 0
    assert capsys.readouterr().out == "No model is quarantined.\n"


def test_a_quarantine_is_lifted_by_name(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("DELETE", LIFT, {"status": "success", "message": "hf.co/a/b:q4 may be used again."})

    assert main(["quarantine", "lift", "hf.co/a/b:q4"]) == 0
    assert capsys.readouterr().out == "hf.co/a/b:q4 may be used again.\n"


def test_to_lift_what_is_not_quarantined_is_an_error(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("DELETE", LIFT, {"error": "It is not quarantined."}, status=404)

    assert main(["quarantine", "lift", "hf.co/a/b:q4"]) == 1
    assert capsys.readouterr().err == "arasul-supervisor: It is not quarantined.\n"


def test_to_lift_nothing_is_wrong_usage() -> None:
    assert main(["quarantine", "lift"]) == 2


@pytest.mark.parametrize("words", [("--json", "lift", "x"), ("lift", "x", "--json")])
def test_json_is_taken_before_and_after_lift(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    daemon.says("DELETE", "/api/models/quarantine/x", {"status": "success"})

    assert main(["quarantine", *words]) == 0
    assert json.loads(capsys.readouterr().out) == {"status": "success"}
