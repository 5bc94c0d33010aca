"""Guards the daemon's own log: nothing is lost before it starts, and nothing secret is in it (promise 7)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs.daemon_log import DaemonLog
from arasul_supervisor.logs.stdout import StdoutWriter, log_format_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.logs.meaning.levels import Level
    from arasul_supervisor.logs.stdout import LogFormat


def test_events_before_the_start_come_first_and_in_order() -> None:
    records = json_of(
        log_to_pipe(lambda log: log.info("later", n=2), early=lambda log: log.warning("early", n=1))
    )
    assert [(record["event"], record["n"], record["level"]) for record in records] == [
        ("early", 1, "warning"),
        ("later", 2, "info"),
    ]
    assert records[0]["source"] == "arasul"
    assert records[0]["at"].endswith("Z")


def test_events_below_the_level_are_left_out() -> None:
    def log_all(log: DaemonLog) -> None:
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")

    records = json_of(log_to_pipe(log_all, early=log_all, level="warning"))
    assert [record["event"] for record in records] == ["w", "e", "w", "e"]


def test_a_secret_in_a_field_is_redacted() -> None:
    text = log_to_pipe(
        lambda log: log.info(
            "x", url="http://u:SECRET@h", more=["token=SECRETabc", {"a": "bearer SECRETabc"}]
        )
    )
    assert "SECRET" not in text


def test_a_field_may_have_the_name_of_a_column_and_any_value() -> None:
    (record,) = json_of(log_to_pipe(lambda log: log.info("x", level="high", path=os, n=None, ok=True)))
    assert (record["level"], record["level_"], record["n"], record["ok"]) == ("info", "high", None, True)


def test_an_unexpected_error_comes_with_its_traceback() -> None:
    def fail(log: DaemonLog) -> None:
        try:
            raise RuntimeError("boom")
        except RuntimeError as error:
            log.exception("unexpected", error, where="here")

    (record,) = json_of(log_to_pipe(fail))
    assert record["error"] == "RuntimeError('boom')"
    assert "raise RuntimeError" in record["traceback"]


def test_the_console_form_is_one_plain_line_when_no_terminal_reads() -> None:
    text = log_to_pipe(lambda log: log.info("engine_started", pid=12), log_format="console")
    assert text.count("\n") == 1
    assert "engine_started" in text
    assert "pid=12" in text
    assert "\x1b" not in text


def test_a_daemon_that_ends_early_says_its_warnings_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    log = DaemonLog(SystemClock())
    log.info("quiet")
    log.error("cannot_run", why="port 1 is taken", url="http://u:SECRET@h")
    log.flush_plain()
    assert capsys.readouterr().err == "error: cannot_run why=port 1 is taken url=http://[redacted]@h\n"


def test_the_room_is_imported_without_structlog() -> None:
    code = (
        "import sys\n"
        "import arasul_supervisor.logs.daemon_log, arasul_supervisor.logs.engine_log, arasul_supervisor.logs.stdout\n"
        "print(*sorted({'structlog', 'aiohttp', 'rich', 'msgspec', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=10
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("asked", "given"), [("auto", "json"), ("console", "console"), ("json", "json")])
def test_the_form_is_json_unless_a_terminal_reads(asked: str, given: str) -> None:
    read_fd, write_fd = os.pipe()
    chosen = log_format_for(asked, write_fd)
    os.close(read_fd)
    os.close(write_fd)
    assert chosen == given


def test_a_terminal_gets_the_console_form() -> None:
    main_fd, terminal_fd = os.openpty()
    chosen = log_format_for("auto", terminal_fd)
    os.close(main_fd)
    os.close(terminal_fd)
    assert chosen == "console"


def log_to_pipe(
    act: Callable[[DaemonLog], None],
    *,
    early: Callable[[DaemonLog], None] = lambda _log: None,
    level: Level = "info",
    log_format: LogFormat = "json",
) -> str:
    read_fd, write_fd = os.pipe()
    writer = StdoutWriter(log_format=log_format, clock=SystemClock(), fd=write_fd)
    os.close(write_fd)
    log = DaemonLog(SystemClock())
    early(log)
    log.start(writer, log_format=log_format, level=level)
    act(log)
    writer.close(timeout_s=5.0)
    with os.fdopen(read_fd, encoding="utf-8") as pipe:
        return pipe.read()


def json_of(text: str) -> list[dict[str, Any]]:  # JSON of any shape
    return [json.loads(line) for line in text.splitlines()]
