"""Guards the command line's answers and exit codes (contract §5) against a real HTTP server."""

from __future__ import annotations

import json
import socket

import pytest

from arasul_supervisor import __version__
from arasul_supervisor.cli import health, main
from tests.integration.cli_daemon import DaemonDouble, Reply
from tests.integration.cli_daemon import daemon as daemon

CHECKS = {"api": {"status": "ok", "detail": "answered", "age_s": 0.4}, "gpu": {"status": "skipped"}}
PROCESS = {
    "state": "running",
    "wanted": "up",
    "gave_up": False,
    "pid": 4242,
    "uptime_s": 11_520.0,
    "restarts": 1,
    "next_attempt_at": None,
    "last_exit": {"code": None, "signal": 9, "reason": "killed by SIGKILL", "at": "2026-11-23T15:04:05.123Z"},
}
MODELS = [
    {
        "name": "qwen3:14b-q8_0",
        "size": 15_700_000_000,
        "quantization": "Q8_0",
        "family": "qwen3",
        "modified_at": "2026-11-20T08:00:00.5Z",
    },
    {"name": "tiny:latest", "size": 1_000_000, "quantization": None, "family": "llama", "modified_at": None},
]


# health


@pytest.mark.parametrize(
    ("status", "body", "code", "first_line"),
    [
        pytest.param(200, {"status": "healthy", "reason": ""}, 0, "healthy", id="healthy"),
        pytest.param(200, {"status": "degraded", "reason": "hot"}, 0, "degraded: hot", id="degraded is up"),
        pytest.param(503, {"status": "starting", "reason": "loading"}, 1, "starting: loading", id="starting"),
        pytest.param(503, {"status": "unhealthy", "reason": "gone"}, 1, "unhealthy: gone", id="unhealthy"),
    ],
)
def test_health_exits_0_only_while_the_engine_may_be_used(
    status: int,
    body: dict[str, object],
    code: int,
    first_line: str,
    daemon: DaemonDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.says("GET", "/health", {**body, "checks": CHECKS}, status=status)

    assert main(["health"]) == code

    out, err = capsys.readouterr()
    assert out.splitlines() == [first_line, "  api     ok       answered", "  gpu     skipped"]
    assert err == ""


@pytest.mark.parametrize("words", [["--json", "health"], ["health", "--json"]], ids=["before", "after"])
def test_json_is_accepted_before_and_after_the_command(
    words: list[str], daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/health", {"status": "unhealthy", "reason": "gone"}, status=503)

    assert main(words) == 1
    assert json.loads(capsys.readouterr().out) == {"status": "unhealthy", "reason": "gone"}


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_url_is_accepted_before_and_after_the_command(
    is_first: bool, daemon: DaemonDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARASUL_URL", "http://127.0.0.1:1")
    daemon.says("GET", "/health", {"status": "healthy"})
    option = ["--url", daemon.url]

    assert main([*option, "health"] if is_first else ["health", *option]) == 0


# what goes wrong


def test_a_refused_connection_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take it meanwhile
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert main(["status", "--url", url]) == 1

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"arasul-supervisor: Nothing listens at {url}; start the daemon")


def test_a_daemon_that_does_not_answer_is_given_up(
    daemon: DaemonDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "TIMEOUT_S", 0.1)
    daemon.replies("GET", "/health", Reply(ending="hold"))

    assert main(["health"]) == 1
    assert (
        capsys.readouterr().err == f"arasul-supervisor: The daemon at {daemon.url} sent nothing for 0.1 s.\n"
    )


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        pytest.param(
            Reply(200, b"Ollama is running"),
            "What answers at {url} sent status 200 and no JSON object; is it the management port?",
            id="the engine's port",
        ),
        pytest.param(
            Reply(200, b"[1, 2]"),
            "What answers at {url} sent status 200 and no JSON object; is it the management port?",
            id="a list",
        ),
        pytest.param(
            Reply(200, b'{"status": "\xff'),
            "What answers at {url} sent status 200 and no JSON object; is it the management port?",
            id="not UTF-8",
        ),
        pytest.param(
            Reply(200, b"{}"), "What answers at {url} does not say how healthy it is.", id="another service"
        ),
        pytest.param(Reply(ending="cut"), "The daemon at {url} broke off the connection.", id="no answer"),
        pytest.param(
            Reply(500, b'{"error": "It broke."}'), "It broke.", id="the daemon's own sentence is passed on"
        ),
        pytest.param(
            Reply(502, b'{"error": {"a": 1}}'), "HTTP status 502.", id="an error without a sentence"
        ),
    ],
)
def test_a_bad_answer_is_one_sentence(
    reply: Reply, sentence: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies("GET", "/health", reply)

    assert main(["health"]) == 1
    assert capsys.readouterr().err == f"arasul-supervisor: {sentence.format(url=daemon.url)}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["helth"], ["rm"], ["health", "--bad"], ["logs", "-n", "0"], ["health", "--url", "ftp://x"]],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_wrong_usage_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert "arasul-supervisor" in err


# status, start, stop, restart


def test_status_tells_the_process_and_its_health(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/process", PROCESS)
    daemon.says("GET", "/health", {"status": "healthy", "reason": "Ollama answers"})

    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "state      running",
        "wanted     up",
        "pid        4242",
        "uptime     3 h 12 min",
        "restarts   1",
        "last exit  killed by SIGKILL (2026-11-23 15:04:05 UTC)",
        "health     healthy: Ollama answers",
    ]


def test_status_of_an_engine_that_is_down_says_when_it_comes_back(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    down = {"state": "backoff", "gave_up": True, "pid": None, "uptime_s": None, "last_exit": None}
    daemon.says("GET", "/api/process", {**PROCESS, **down, "next_attempt_at": "2026-11-23T15:05:00Z"})
    daemon.says("GET", "/health", {"status": "unhealthy", "reason": "it dies at once"}, status=503)

    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "state       backoff (gave up)",
        "wanted      up",
        "pid         none",
        "uptime      none",
        "restarts    1",
        "next start  2026-11-23 15:05:00 UTC",
        "last exit   none",
        "health      unhealthy: it dies at once",
    ]


@pytest.mark.parametrize(
    ("command", "state"), [("start", "running"), ("restart", "running"), ("stop", "stopped")]
)
def test_a_change_is_a_success_when_it_settled_as_asked(
    command: str, state: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("POST", f"/api/process/{command}", {**PROCESS, "state": state, "pid": None})

    assert main([command]) == 0
    assert [asked.target for asked in daemon.asked] == [f"/api/process/{command}"]
    assert capsys.readouterr().out == f"{state}\n"


def test_a_start_that_ends_in_back_off_is_an_error(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("POST", "/api/process/start", {**PROCESS, "state": "backoff"})

    assert main(["start"]) == 1
    assert "The start ended in state backoff (killed by SIGKILL)" in capsys.readouterr().err


def test_no_wait_only_asks(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("POST", "/api/process/restart", {**PROCESS, "state": "stopping"}, status=202)

    assert main(["restart", "--no-wait"]) == 0
    assert daemon.asked[0].target == "/api/process/restart?wait=false"
    assert capsys.readouterr().out == "stopping, pid 4242\n"


# models, rm


def test_models_lists_what_is_installed_and_marks_what_is_loaded(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models", {"models": MODELS, "count": 2})
    loaded = [{"name": "qwen3:14b-q8_0", "gpu_percent": 100}]
    daemon.says("GET", "/api/models/loaded", {"loaded_models": loaded, "count": 1})

    assert main(["models"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "SIZE", "QUANTIZATION", "FAMILY", "MODIFIED", "LOADED"],
        ["qwen3:14b-q8_0", "15.7", "GB", "Q8_0", "qwen3", "2026-11-20", "08:00:00", "UTC", "100", "%", "GPU"],
        ["tiny:latest", "1.0", "MB", "unknown", "llama", "unknown"],
    ]


def test_models_are_listed_when_the_engine_cannot_say_what_is_loaded(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models", {"models": MODELS[1:], "count": 1})
    daemon.says("GET", "/api/models/loaded", {"error": "Ollama is not up."}, status=503)

    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[1].rstrip().endswith("unknown")


def test_models_in_json_is_the_daemons_answer(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models", {"models": MODELS, "count": 2})

    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": MODELS, "count": 2}


def test_rm_says_what_it_freed(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("DELETE", "/api/models/delete", {"status": "success", "freed_bytes": 4_661_224_676})

    assert main(["rm", "hf.co/a/b:Q4 K"]) == 0
    assert daemon.asked[0].target == "/api/models/delete?model=hf.co%2Fa%2Fb%3AQ4%20K"
    assert capsys.readouterr().out == "Removed hf.co/a/b:Q4 K, 4.7 GB freed\n"


def test_rm_of_an_unknown_model_passes_on_the_daemons_sentence(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("DELETE", "/api/models/delete", {"error": "No model 'x' is installed."}, status=404)

    assert main(["rm", "x"]) == 1
    assert capsys.readouterr().err == "arasul-supervisor: No model 'x' is installed.\n"


# version


def test_version_tells_all_three(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/info", {"version": "0.1.0", "ollama_version": "0.34.4"})

    assert main(["version"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"arasul-supervisor  {__version__}",
        f"daemon             0.1.0 ({daemon.url})",
        "ollama             0.34.4",
    ]


def test_version_without_a_daemon_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARASUL_URL", "http://127.0.0.1:1")

    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": __version__,
        "daemon_version": None,
        "ollama_version": None,
    }
