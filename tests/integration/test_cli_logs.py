"""Guards `arasul-supervisor logs` against a real HTTP server."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from arasul_supervisor.cli import logs, main
from tests.integration.cli_daemon import DaemonDouble, Reply
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    import pytest


def _page(*texts: str, first: int = 1, dropped: int = 0) -> dict[str, object]:
    lines = [{"seq": first + at, "level": "info", "text": text} for at, text in enumerate(texts)]
    return {"lines": lines, "next": first + len(texts), "dropped": dropped}


def test_logs_prints_the_newest_lines_as_they_are(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/logs", _page("a", "", "c \u2603 \ud800", dropped=3))

    assert main(["logs", "-n", "3", "--level", "error", "--outcome", "load_failed"]) == 0

    out, err = capsys.readouterr()
    assert daemon.asked[0].target == "/api/logs?lines=3&level=error&outcome=load_failed"
    assert out == "a\n\nc \u2603 \\ud800\n"
    assert err == "arasul-supervisor: 3 lines are missing here; the log file has them.\n"


def test_logs_in_json_is_one_object_a_line(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/logs", _page("a", "b"))

    assert main(["logs", "--json"]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]


def test_following_logs_outlives_a_restart_of_the_daemon(
    daemon: DaemonDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "PERIOD_S", 0.01)
    daemon.says("GET", "/api/logs", _page("a", first=70))
    daemon.says("GET", "/api/logs", _page("b", first=71))
    daemon.replies("GET", "/api/logs", Reply(ending="cut"), Reply(ending="cut"))
    daemon.says("GET", "/api/logs", {"lines": [], "next": 2, "dropped": 0})  # counts anew: 2 < 72
    daemon.says("GET", "/api/logs", {**_page("c"), "dropped": None})
    daemon.says("GET", "/api/logs", {"error": "the test is over"}, status=400)

    assert main(["logs", "-f"]) == 1

    out, err = capsys.readouterr()
    assert out.splitlines() == ["a", "b", "c"]
    assert err.count("broke off the connection. Waiting for it.") == 1
    assert err.count("The daemon was started anew; the log file has the lines") == 1
    assert [asked.target.partition("?")[2] for asked in daemon.asked] == [
        "lines=100",
        "lines=5000&since=71",
        "lines=5000&since=72",
        "lines=5000&since=72",
        "lines=5000&since=72",
        "lines=5000",
        "lines=5000&since=2",
    ]


LOUD = {"lines": [{"level": level, "text": level} for level in logs.LEVELS], "next": 5, "dropped": 0}


def test_on_a_terminal_the_level_of_a_line_is_its_colour(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    daemon.says("GET", "/api/logs", LOUD)
    main(["logs"])
    assert capsys.readouterr().out.splitlines() == [
        "\x1b[2mdebug\x1b[0m",
        "info",
        "\x1b[33mwarning\x1b[0m",
        "\x1b[31merror\x1b[0m",
    ]


def test_no_color_is_heeded(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    daemon.says("GET", "/api/logs", LOUD)
    main(["logs"])
    assert capsys.readouterr().out.splitlines() == list(logs.LEVELS)
