"""Guards `pull`: the daemon owns it, no success is claimed that was not told, Ctrl-C leaves it running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Final

import pytest

from arasul_supervisor.cli import main, pull
from tests.integration.cli_daemon import PATIENCE_S, DaemonDouble, Reply
from tests.integration.cli_daemon import daemon as daemon

MANIFEST: Final = {"status": "pulling manifest"}
LAYER: Final = {"status": "pulling 3f8e", "digest": "sha256:3f8e", "total": 1_000_000, "completed": 500_000}
SUCCESS: Final = {"status": "success"}
COMMAND: Final = (sys.executable, "-m", "arasul_supervisor")


def test_a_pull_shows_its_lines_and_ends_with_success(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(MANIFEST, LAYER, SUCCESS)))

    assert main(["pull", "tiny"]) == 0
    assert json.loads(daemon.asked[0].body) == {"model": "tiny", "stream": True}
    assert capsys.readouterr().out.splitlines() == [
        "pulling manifest",
        "pulling 3f8e: 50 % of 1.0 MB",
        "success",
    ]


def test_a_pull_without_a_name_asks_for_the_default_model(daemon: DaemonDouble) -> None:
    daemon.says("GET", "/api/info", {"default_model": "qwen3:14b-q8"})
    daemon.replies("POST", "/api/models/pull", Reply(lines=(SUCCESS,)))

    assert main(["pull"]) == 0
    assert json.loads(daemon.asked[1].body)["model"] == "qwen3:14b-q8"


def test_a_pull_in_json_passes_the_lines_on(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(LAYER, SUCCESS)))

    assert main(["pull", "tiny", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [LAYER, SUCCESS]


JOINING: Final = "The pull may go on; `arasul-supervisor pull tiny` joins it."


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        pytest.param(
            Reply(lines=(MANIFEST, {"error": "disk full"})), "disk full", id="the last line is an error"
        ),
        pytest.param(
            Reply(lines=(MANIFEST, LAYER), ending="cut"),
            f"The daemon's report of the pull broke off. {JOINING}",
            id="the connection is cut",
        ),
        pytest.param(
            Reply(lines=(MANIFEST, LAYER)),
            f"The daemon's report of the pull broke off. {JOINING}",
            id="no last word",
        ),
        pytest.param(
            Reply(400, b'{"error": "Invalid model name format"}'), "Invalid model name format", id="refused"
        ),
    ],
)
def test_a_pull_that_was_not_told_to_have_succeeded_is_an_error(
    reply: Reply, sentence: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", reply)

    assert main(["pull", "tiny"]) == 1
    assert capsys.readouterr().err == f"arasul-supervisor: {sentence.format(url=daemon.url)}\n"


def test_a_silent_pull_is_joined_again_while_the_daemon_lives(
    daemon: DaemonDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "SILENCE_S", 0.1)
    daemon.says("GET", "/livez", {"status": "ok"})
    daemon.replies(
        "POST", "/api/models/pull", Reply(lines=(MANIFEST,), ending="hold"), Reply(lines=(SUCCESS,))
    )

    assert main(["pull", "tiny"]) == 0
    assert [asked.path for asked in daemon.asked] == ["/api/models/pull", "/livez", "/api/models/pull"]


def test_ctrl_c_leaves_the_pull_running_and_says_how_to_come_back_and_to_cancel(daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(MANIFEST,), ending="hold"))
    jobs = [
        {"id": "old", "model": "tiny:latest", "state": "done"},
        {"id": "p7", "model": "tiny:latest", "state": "running"},
    ]
    daemon.says("GET", "/api/models/pulls", {"pulls": jobs})

    with subprocess.Popen((*COMMAND, "pull", "tiny"), stdout=-1, stderr=-1, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "pulling manifest\n"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=PATIENCE_S)

    assert command.returncode == 130
    assert "`arasul-supervisor pull tiny` shows it again" in err
    assert f"`curl -X DELETE {daemon.url}/api/models/pulls/p7` cancels it." in err
    assert err.count("\n") == 1
    assert {asked.method for asked in daemon.asked} == {"POST", "GET"}


def test_a_terminal_gets_a_bar_without_colours_when_the_user_wants_none(daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(MANIFEST, LAYER, SUCCESS)))
    ours, its = os.openpty()
    environ = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}

    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen((*COMMAND, "pull", "tiny"), stdout=its, stderr=its, env=environ) as command,
    ):
        os.close(its)
        shown = b"".join(iter(lambda: _read(screen.fileno()), b"")).decode()
        code = command.wait(PATIENCE_S)

    assert code == 0
    assert "pulling 3f8e" in shown
    assert "0.5/1.0 MB" in shown
    assert "\x1b[3" not in shown  # SGR colours


def _read(fd: int) -> bytes:
    """What the terminal shows next; nothing once its last writer left, which Linux reports as EIO."""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
