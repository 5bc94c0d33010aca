"""Guards the command line as a program: what it imports, how it starts, how it ends in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from tests.integration.cli_daemon import PATIENCE_S, DaemonDouble

PROGRAM: Final = (sys.executable, "-m", "arasul_supervisor")
HEAVY: Final = ("aiohttp", "asyncio", "structlog", "msgspec", "psutil", "rich", "dataclasses")


@pytest.mark.parametrize("command", ["health", "status", "start", "logs", "version", "pull", "models"])
def test_a_client_command_imports_nothing_heavy_before_it_speaks(command: str) -> None:
    program = (
        "import sys; from arasul_supervisor.cli import main; "
        f"code = main([{command!r}, '--url', 'http://127.0.0.1:1']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    program_line = (sys.executable, "-c", program)
    done = subprocess.run(program_line, env=bare, capture_output=True, text=True, timeout=PATIENCE_S)

    assert done.stderr.splitlines()[-1] == "[]"


def test_the_help_names_every_command() -> None:
    done = subprocess.run((*PROGRAM, "--help"), capture_output=True, text=True, timeout=PATIENCE_S)

    words = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert done.returncode == 0
    assert words >= set("run health status start stop restart config models pull rm logs version".split())


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    lines = [{"seq": at, "text": "x" * 200} for at in range(5000)]  # 1 MB, more than a pipe holds
    with DaemonDouble() as daemon:
        daemon.says("GET", "/api/logs", {"lines": lines, "next": 5000, "dropped": 0})
        command = subprocess.Popen((*PROGRAM, "logs", "--url", daemon.url), stdout=-1, stderr=-1)
        with command:
            assert command.stdout is not None and command.stderr is not None
            command.stdout.readline()
            command.stdout.close()
            err = command.stderr.read()
            code = command.wait(PATIENCE_S)

    assert err == b""
    assert code == 141  # 128 + SIGPIPE, as a shell shows it


@pytest.mark.parametrize("command", ["logs", "models", "config"])
def test_what_cannot_be_written_is_said_in_a_sentence(command: str) -> None:
    with DaemonDouble() as daemon, open("/dev/full", "wb") as full:
        daemon.says("GET", "/api/logs", {"lines": [{"seq": 1, "text": "x"}], "next": 2, "dropped": 0})
        daemon.says("GET", "/api/models", {"models": [], "count": 0})
        words = (*PROGRAM, command, *(() if command == "config" else ("--url", daemon.url)))
        done = subprocess.run(words, stdout=full, stderr=-1, text=True, timeout=PATIENCE_S)

    said = done.stderr.splitlines()[-1]
    assert said == "arasul-supervisor: The output cannot be written: No space left on device."
    assert done.returncode == 1


def test_without_a_stdout_the_lines_are_asked_for_and_nothing_fails() -> None:
    with DaemonDouble() as daemon:
        daemon.says("GET", "/api/logs", {"lines": [{"seq": 1, "text": "x"}], "next": 2, "dropped": 0})
        words = ("sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "logs", "--url", daemon.url)
        done = subprocess.run(words, stderr=-1, text=True, timeout=PATIENCE_S)

    assert (done.returncode, done.stderr) == (0, "")
