"""Guards `pull`: the daemon owns it, no success is claimed that was not told, Ctrl-C leaves it running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Final

import pytest

from arasul_supervisor.cli import main, pull_watch
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
    monkeypatch.setattr(pull_watch, "SILENCE_S", 0.1)
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

    words = (*COMMAND, "pull", "tiny", "--insecure")
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "pulling manifest\n"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=PATIENCE_S)

    assert command.returncode == 130
    assert "`arasul-supervisor pull tiny --insecure` shows it again" in err
    assert "`arasul-supervisor pull tiny --cancel` ends it." in err
    assert err.count("\n") == 1
    assert {asked.method for asked in daemon.asked} == {"POST", "GET"}


def test_a_terminal_gets_a_bar_without_colours_when_the_user_wants_none(daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(MANIFEST, LAYER, SUCCESS)))

    code, shown = _on_a_terminal("pull", "tiny")

    assert code == 0
    assert "pulling 3f8e" in shown
    assert "0.5/1.0 MB" in shown
    assert "\x1b[3" not in shown  # SGR colours


def test_a_terminal_gets_a_bar_of_the_whole_with_the_daemons_own_speed_and_time_left(
    daemon: DaemonDouble,
) -> None:
    job = {
        "state": "running",
        "attempt": 2,
        "layer": 1,
        "layers": 5,
        "total": 4_000_000,
        "completed": 500_000,
    }
    line = {**LAYER, "job": {**job, "speed_bytes_per_s": 12_300_000.0, "eta_s": 200.0}}
    daemon.replies("POST", "/api/models/pull", Reply(lines=(line, SUCCESS)))

    _, shown = _on_a_terminal("pull", "tiny")

    whole = next(row for row in shown.splitlines() if "layer 1 of 5, attempt 2" in row)
    assert "0.5/4.0 MB" in whole
    assert "12.3 MB/s, 3 min 20 s left" in whole


def test_a_terminal_gets_the_reason_of_a_retry_above_the_bars(daemon: DaemonDouble) -> None:
    retry = {"status": "waiting to retry", "reason": "The registry is \x1b[31mred.", "retry_in_s": 4.0}
    daemon.replies("POST", "/api/models/pull", Reply(lines=(LAYER, retry, SUCCESS)))

    _, shown = _on_a_terminal("pull", "tiny")

    assert "waiting to retry in 4 s: The registry is \\x1b[31mred." in shown


# --wait


PULLING: Final = {**MANIFEST, "job": {"id": "p7", "state": "running", "attempt": 1}}
JOB: Final = "/api/models/pulls/p7"
FULL: Final = {"error": "The disk is full.", "code": "disk_full"}
STOPPED: Final = {"error": "The daemon stops.", "code": "engine_down"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can wait for."""
    monkeypatch.setattr(pull_watch, "RECONNECT_S", 0.01)
    monkeypatch.setattr(pull_watch, "FULL_DISK_POLL_S", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "broken_off",
    [
        pytest.param(Reply(lines=(PULLING,), ending="cut"), id="a cut connection"),
        pytest.param(Reply(lines=(PULLING, STOPPED)), id="a daemon that stops"),
    ],
)
def test_waiting_goes_on_after_a_restart_of_the_daemon(broken_off: Reply, daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", broken_off, Reply(lines=(PULLING, SUCCESS)))
    daemon.replies("GET", JOB, Reply(ending="cut"), Reply(ending="cut"))
    daemon.says("GET", JOB, {"id": "p7", "state": "running"})

    assert main(["pull", "tiny", "--wait"]) == 0
    assert [asked.path for asked in daemon.asked] == ["/api/models/pull", JOB, JOB, JOB, "/api/models/pull"]


@pytest.mark.usefixtures("quick")
def test_waiting_says_once_what_it_waits_for(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    down = Reply(503, b'{"error": "Ollama is not up.", "code": "engine_down"}')
    daemon.says("GET", "/api/models/pulls", {"pulls": []})
    daemon.replies("POST", "/api/models/pull", down, down, down, Reply(lines=(SUCCESS,)))

    assert main(["pull", "tiny", "--wait"]) == 0
    assert capsys.readouterr().err == "arasul-supervisor: Ollama is not up. Waiting for it.\n"


@pytest.mark.usefixtures("quick")
def test_waiting_does_not_begin_a_pull_anew_that_was_done_meanwhile(daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(PULLING,), ending="cut"))
    daemon.says("GET", JOB, {"id": "p7", "state": "done"})

    assert main(["pull", "tiny", "--wait"]) == 0
    assert [asked.path for asked in daemon.asked] == ["/api/models/pull", JOB]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({"state": "failed", "error": "It is gone."}, "It is gone."),
        ({"state": "cancelled", "error": None}, "The pull of tiny has been cancelled."),
    ],
    ids=["failed", "cancelled"],
)
def test_waiting_ends_when_the_pull_was_given_up_meanwhile(
    job: dict[str, object], sentence: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(PULLING,), ending="cut"))
    daemon.says("GET", JOB, {"id": "p7", **job})

    assert main(["pull", "tiny", "--wait"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"arasul-supervisor: {sentence}"


@pytest.mark.usefixtures("quick")
def test_waiting_asks_anew_when_the_daemon_has_forgotten_the_pull(daemon: DaemonDouble) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(PULLING,), ending="cut"), Reply(lines=(SUCCESS,)))
    daemon.says("GET", JOB, {"error": "No pull 'p7' is known.", "code": "pull_not_found"}, status=404)

    assert main(["pull", "tiny", "--wait"]) == 0


@pytest.mark.usefixtures("quick")
def test_waiting_looks_at_a_pull_that_lacks_room_until_it_goes_on(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(PULLING, FULL)), Reply(lines=(PULLING, SUCCESS)))
    for state in ("retrying", "retrying", "running"):
        daemon.says("GET", JOB, {"id": "p7", "state": state})

    assert main(["pull", "tiny", "--wait"]) == 0
    assert [asked.path for asked in daemon.asked] == ["/api/models/pull", JOB, JOB, JOB, "/api/models/pull"]
    assert capsys.readouterr().err == "arasul-supervisor: The disk is full. Waiting for room.\n"


@pytest.mark.usefixtures("quick")
def test_waiting_ends_when_the_disk_is_full_and_no_job_goes_on(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", Reply(lines=(MANIFEST, FULL)))
    daemon.says("GET", "/api/models/pulls", {"pulls": [{"id": "p7", "model": "tiny", "state": "failed"}]})

    assert main(["pull", "tiny", "--wait"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "arasul-supervisor: The disk is full."


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(404, b'{"error": "No such model.", "code": "model_not_found"}'), id="at once"),
        pytest.param(
            Reply(lines=(PULLING, {"error": "No such model.", "code": "model_not_found"})), id="in the report"
        ),
    ],
)
def test_waiting_does_not_wait_for_what_stays_refused(
    reply: Reply, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("POST", "/api/models/pull", reply)

    assert main(["pull", "tiny", "--wait"]) == 1
    assert capsys.readouterr().err == "arasul-supervisor: No such model.\n"


@pytest.mark.usefixtures("quick")
def test_waiting_for_the_default_model_waits_for_a_daemon_that_names_it(daemon: DaemonDouble) -> None:
    daemon.replies("GET", "/api/info", Reply(ending="cut"))
    daemon.says("GET", "/api/info", {"default_model": "tiny"})
    daemon.replies("POST", "/api/models/pull", Reply(lines=(SUCCESS,)))

    assert main(["pull", "--wait"]) == 0


# --background, --cancel


def test_a_pull_in_the_background_says_how_to_look_at_it(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("POST", "/api/models/pull", {"id": "p7", "state": "queued"}, status=202)

    assert main(["pull", "tiny", "--background", "--insecure"]) == 0
    assert json.loads(daemon.asked[0].body) == {"model": "tiny", "insecure": True, "background": True}
    assert "`arasul-supervisor pulls` lists it" in capsys.readouterr().out


JOBS: Final = (
    {"id": "v1", "kind": "verify", "model": "tiny:latest", "state": "running"},
    {"id": "p8", "kind": "pull", "model": "other:latest", "state": "running"},
    {"id": "p7", "kind": "pull", "model": "Tiny:latest", "state": "retrying"},
    {"id": "p6", "kind": "pull", "model": "gone:latest", "state": "failed"},
)


@pytest.mark.parametrize(
    ("words", "target", "ended", "said"),
    [
        pytest.param(
            ["tiny"],
            "p7",
            {"state": "cancelled", "kept_bytes": 1_200_000_000},
            "Cancelled the pull of tiny; 1.2 GB stay on disk, where its next pull goes on from",
            id="one under way",
        ),
        pytest.param(
            ["tiny", "--purge"],
            "p7?purge=true",
            {"state": "cancelled", "purged_bytes": 1_200_000_000, "kept_bytes": 0},
            "Cancelled the pull of tiny; 1.2 GB freed",
            id="with its parts",
        ),
        pytest.param(
            ["gone", "--purge"],
            "p6?purge=true",
            {"state": "failed", "purged_bytes": 5000},
            "Cancelled the pull of gone; 5.0 kB freed",
            id="the parts of one that ended",
        ),
        pytest.param(
            ["tiny"],
            "p7",
            {"state": "done"},
            "tiny was there before it could be cancelled; `arasul-supervisor rm tiny` removes it.",
            id="too late",
        ),
    ],
)
def test_cancelling_says_what_stays_on_disk(
    words: list[str],
    target: str,
    ended: dict[str, object],
    said: str,
    daemon: DaemonDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": JOBS})
    for job_id in ("p6", "p7"):
        daemon.says("DELETE", f"/api/models/pulls/{job_id}", ended)

    assert main(["pull", *words, "--cancel"]) == 0
    assert daemon.asked[-1].target == f"/api/models/pulls/{target}"
    assert capsys.readouterr().out == f"{said}\n"


def test_cancelling_what_is_not_pulled_is_an_error(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": JOBS})

    assert main(["pull", "gone", "--cancel"]) == 1
    assert capsys.readouterr().err.startswith("arasul-supervisor: No pull of gone is under way; ")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_pulls_nothing(name: str, daemon: DaemonDouble) -> None:
    assert main(["pull", name]) == 2
    assert daemon.asked == []


@pytest.mark.parametrize("words", [["--purge"], ["--wait", "--background"]], ids=" ".join)
def test_options_that_do_not_go_together_are_wrong_usage(words: list[str], daemon: DaemonDouble) -> None:
    assert main(["pull", "tiny", *words]) == 2
    assert daemon.asked == []


def _on_a_terminal(*words: str) -> tuple[int, str]:
    """The exit code, and all that the terminal was sent."""
    ours, its = os.openpty()
    environ = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen((*COMMAND, *words), stdout=its, stderr=its, env=environ) as command,
    ):
        os.close(its)
        shown = b"".join(iter(lambda: _read(screen.fileno()), b"")).decode()
        return command.wait(PATIENCE_S), shown


def _read(fd: int) -> bytes:
    """What the terminal shows next; nothing once its last writer left, which Linux reports as EIO."""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
