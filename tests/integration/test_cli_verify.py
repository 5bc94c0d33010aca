"""Guards `verify` and `repair`: they follow the daemon's job, and exit 0 only when nothing is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from arasul_supervisor.cli import checks, main
from tests.integration.cli_daemon import PATIENCE_S, DaemonDouble
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND: Final = (sys.executable, "-m", "arasul_supervisor")
PATH: Final = "/api/models/pulls/v9"
QUEUED: Final[Mapping[str, object]] = {
    "id": "v9",
    "kind": "verify",
    "model": None,
    "state": "queued",
    "total": None,
    "completed": 0,
}
RUNNING: Final[Mapping[str, object]] = {
    **QUEUED,
    "state": "running",
    "status": "verifying sha256-3f8e",
    "total": 4000,
    "layer": "sha256:3f8e",
}
DONE: Final[Mapping[str, object]] = {
    **RUNNING,
    "state": "done",
    "completed": 4000,
    "status": None,
    "layer": None,
    "broken": [],
}
BROKEN: Final = [
    {"name": "a:latest", "reason": "Its weights are not what they were."},
    {"name": "b:latest", "reason": "Its template is missing."},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that a test can wait for."""
    monkeypatch.setattr(checks, "POLL_S", 0.01)


def _daemon_goes(daemon: DaemonDouble, command: str, *jobs: Mapping[str, object]) -> None:
    daemon.says("POST", f"/api/models/{command}", QUEUED, status=202)
    for job in jobs:
        daemon.says("GET", PATH, job)


def test_a_check_is_shown_to_its_end(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    pace = {"speed_bytes_per_s": 812e6, "eta_s": 3.0}
    _daemon_goes(daemon, "verify", {**RUNNING, "completed": 2100, **pace}, DONE)

    assert main(["verify"]) == 0
    assert json.loads(daemon.asked[0].body) == {}
    assert capsys.readouterr().out.splitlines() == [
        "queued",
        "verifying sha256-3f8e: 50 % of 4.0 kB, 812 MB/s, 3 s left",
        "done",
        "Every model is whole.",
    ]


def test_one_model_may_be_named(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    _daemon_goes(daemon, "repair", DONE)

    assert main(["repair", "tiny"]) == 0
    assert json.loads(daemon.asked[0].body) == {"model": "tiny"}
    assert capsys.readouterr().out.splitlines()[-1] == "tiny is whole."


def test_broken_models_are_listed_one_per_line_and_are_no_success(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    _daemon_goes(daemon, "verify", {**DONE, "broken": BROKEN})

    assert main(["verify"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [
        "a:latest: Its weights are not what they were.",
        "b:latest: Its template is missing.",
    ]
    assert err == "arasul-supervisor: `arasul-supervisor repair` pulls again what is broken.\n"


def test_what_a_repair_could_not_mend_is_listed_with_the_daemons_sentence(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {**DONE, "state": "failed", "error": "b:latest was made here.", "broken": BROKEN[1:]}
    _daemon_goes(daemon, "repair", failed)

    assert main(["repair"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "b:latest: Its template is missing."
    assert err == "arasul-supervisor: b:latest was made here.\n"


@pytest.mark.parametrize("state", ["cancelled", "strange"])
def test_a_check_that_did_not_get_to_its_end_is_no_success(
    state: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    _daemon_goes(daemon, "verify", {**DONE, "state": state})

    assert main(["verify"]) == 1
    assert capsys.readouterr().err == f"arasul-supervisor: The verify ended as {state}.\n"


def test_in_json_the_job_is_printed_when_it_changes(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {**DONE, "broken": BROKEN}
    _daemon_goes(daemon, "verify", RUNNING, RUNNING, done)

    assert main(["verify", "--json"]) == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [QUEUED, RUNNING, done]


def test_a_check_that_the_daemon_forgot_says_how_to_begin_it_again(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("POST", "/api/models/verify", QUEUED, status=202)
    daemon.says("GET", PATH, {"error": "No pull 'v9' is known.", "code": "pull_not_found"}, status=404)

    assert main(["verify", "tiny"]) == 1
    assert "`arasul-supervisor verify tiny` begins it again" in capsys.readouterr().err


def test_what_a_repair_does_between_its_looks_is_shown(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    mending = {**RUNNING, "completed": 4000, "layer": None, "status": "pulling a:latest"}
    _daemon_goes(daemon, "repair", {**RUNNING, "completed": 4000}, mending, DONE)

    assert main(["repair"]) == 0
    assert "pulling a:latest" in capsys.readouterr().out.splitlines()


def test_an_unknown_model_passes_on_the_daemons_sentence(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("POST", "/api/models/verify", {"error": "x is not installed."}, status=404)

    assert main(["verify", "x"]) == 1
    assert capsys.readouterr().err == "arasul-supervisor: x is not installed.\n"


def test_ctrl_c_leaves_the_check_running_and_says_how_to_come_back_and_to_cancel(
    daemon: DaemonDouble,
) -> None:
    _daemon_goes(daemon, "verify", RUNNING)

    with subprocess.Popen((*COMMAND, "verify"), stdout=-1, stderr=-1, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "queued\n"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=PATIENCE_S)

    assert command.returncode == 130
    assert "`arasul-supervisor verify` shows it again" in err
    assert f"`curl -X DELETE {daemon.url}{PATH}` cancels it." in err
