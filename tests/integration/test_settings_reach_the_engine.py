"""Every setting of CONTRACT §2 has its effect, seen in the engine's environment or in what the daemon does."""

from __future__ import annotations

import json
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine

BOARD = Path(__file__).parents[1] / "engine" / "boards" / "x86-one-gpu"


@pytest.mark.parametrize(
    ("env", "variable", "value"),
    [
        pytest.param({}, "OLLAMA_CONTEXT_LENGTH", "8192", id="context, default"),
        pytest.param({"LLM_CONTEXT_LENGTH": "4096"}, "OLLAMA_CONTEXT_LENGTH", "4096", id="context"),
        pytest.param({}, "OLLAMA_KEEP_ALIVE", "300s", id="keep-alive, default"),
        pytest.param({"LLM_KEEP_ALIVE_SECONDS": "0"}, "OLLAMA_KEEP_ALIVE", "0s", id="keep-alive, at once"),
        pytest.param({"LLM_KEEP_ALIVE_SECONDS": "-1"}, "OLLAMA_KEEP_ALIVE", "-1s", id="keep-alive, for ever"),
        pytest.param({"LLM_GPU_LAYERS": "33"}, "LLAMA_ARG_N_GPU_LAYERS", "33", id="GPU layers"),
        pytest.param({}, "LLAMA_ARG_N_GPU_LAYERS", None, id="GPU layers, all that fit"),
        pytest.param({}, "OLLAMA_ORIGINS", "*", id="origins, default"),
        pytest.param(
            {"OLLAMA_ORIGINS": "http://a.example"}, "OLLAMA_ORIGINS", "http://a.example", id="origins"
        ),
        pytest.param({}, "OLLAMA_NOPRUNE", "1", id="unfinished downloads are kept"),
        pytest.param({"OLLAMA_NOPRUNE": "0"}, "OLLAMA_NOPRUNE", "0", id="unless the user says otherwise"),
        pytest.param({}, "OLLAMA_NO_CLOUD", "1", id="no calls home"),
        pytest.param(
            {"OLLAMA_CONTEXT_LENGTH": "77"}, "OLLAMA_CONTEXT_LENGTH", "77", id="the user's own beats ours"
        ),
        pytest.param({"OLLAMA_NUM_PARALLEL": "2"}, "OLLAMA_NUM_PARALLEL", "2", id="others pass unchanged"),
        pytest.param({"OLLAMA_NUM_PARALLEL": ""}, "OLLAMA_NUM_PARALLEL", None, id="blank is unset"),
        pytest.param({"SOMETHING": "else"}, "SOMETHING", "else", id="and what is nobody's"),
        pytest.param({}, "LLAMA_ARG_FIT_TARGET", None, id="no memory limit without a GPU"),
        pytest.param({"NOTIFY_SOCKET": "/run/x"}, "NOTIFY_SOCKET", None, id="systemd's socket is held back"),
        pytest.param({"LLM_MODEL": "tiny"}, "LLM_MODEL", None, id="our own are held back"),
    ],
)
def test_a_variable_reaches_the_engine(
    daemon: DaemonFactory, fake_engine: FakeEngine, env: dict[str, str], variable: str, value: str | None
) -> None:
    daemon(env=env)
    wait_until(lambda: (fake_engine.folder / "dump").exists(), limit_s=10, what="the engine's environment")
    assert fake_engine.dump()["environ"].get(variable) == value


def test_the_engine_gets_its_own_session_no_stray_descriptor_and_no_blocked_signal(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    daemon().wait_ready()
    seen = fake_engine.dump()
    assert seen["pid"] == seen["pgid"] == seen["sid"]
    assert seen["blocked"] == []
    assert {fd for fd, target in seen["fds"].items() if "spool" in target} == {"1", "2"}
    assert seen["fds"]["0"] == "/dev/null"
    assert [
        target for target in seen["fds"].values() if "lock" in target or target.startswith("socket")
    ] == []


def test_the_share_of_gpu_memory_becomes_the_part_to_leave_free(
    daemon: DaemonFactory, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    stub = build_nvml_stub(tmp_path / "gpu")
    stub.answer((BOARD / "nvml.txt").read_text())
    gpu = {"ARASUL_GPU": "nvml", "LD_LIBRARY_PATH": str(stub.folder), "NVML_STUB_FILE": str(stub.answers)}
    running = daemon(env={**gpu, "OLLAMA_GPU_MEMORY_FRACTION": "0.5"}).wait_ready()
    total, free = 85_520_809_984, 64_238_911_488  # of the board's recording
    left_mib = int(fake_engine.dump()["environ"]["LLAMA_ARG_FIT_TARGET"])
    assert left_mib == pytest.approx((free - 0.5 * total) / 2**20, abs=1)
    running.wait_for(lambda: bool(running.get("/api/stats").json()["gpus"]), what="a GPU in the figures")
    assert running.get("/api/stats").json()["gpu_memory"] == 19_817


def test_a_bad_variable_of_the_engine_is_told_before_anything_is_started(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    refused = daemon(env={"LLAMA_ARG_N_GPU_LAYERS": "lots", "LLM_CONTEXT_LENGTH": "many"})
    assert refused.wait_exit() == 2
    assert "LLAMA_ARG_N_GPU_LAYERS" in refused.log_text()
    assert "LLM_CONTEXT_LENGTH" in refused.log_text()
    assert fake_engine.lives() == []


def test_an_unknown_setting_is_warned_of_with_the_nearest_name(daemon: DaemonFactory) -> None:
    running = daemon(env={"ARASUL_PROT": "1"}).wait_ready()
    running.wait_for(lambda: "ARASUL_PORT" in running.log_text(), what="the warning")


def test_nothing_is_loaded_at_the_first_launch(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    daemon(env={"LLM_MODEL": "tiny"}).wait_ready()
    asked = {request["target"] for request in fake_engine.requests()}
    assert asked.isdisjoint({"/api/generate", "/api/chat", "/api/embed"})


def test_the_default_model_is_what_a_session_reset_loads(daemon: DaemonFactory) -> None:
    running = daemon(env={"LLM_MODEL": "tiny"}).wait_ready()
    assert running.post("/api/session/reset").json()["message"] == "Session reset, reloaded tiny"
    assert running.get("/api/info").json()["default_model"] == "tiny"


def test_on_an_old_engine_the_gpu_layers_go_with_the_loads_made_by_us(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    old = {"FAKE_OLLAMA_VERSION": "0.24.0", "LLM_MODEL": "tiny", "LLM_GPU_LAYERS": "20"}
    running = daemon(env=old).wait_ready()
    assert running.post("/api/session/reset").status == 200
    loads = [
        json.loads(asked["body"]) for asked in fake_engine.requests() if asked["target"] == "/api/generate"
    ]
    assert [load.get("options") for load in loads if load.get("keep_alive") != 0] == [{"num_gpu": 20}]


def test_the_engine_listens_where_it_is_told(daemon: DaemonFactory, free_port: int) -> None:
    running = daemon(env={"OLLAMA_HOST": f"0.0.0.0:{free_port}"}).wait_ready()
    assert running.request("GET", "/api/version", port=free_port).status == 200


def test_the_management_port_listens_where_it_is_told(daemon: DaemonFactory) -> None:
    running = daemon(env={"ARASUL_HOST": "127.0.0.2"})
    wait_until(lambda: _answers("127.0.0.2", running.port), limit_s=10, what="an answer on 127.0.0.2")
    with pytest.raises(ConnectionRefusedError):
        running.get("/livez")


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as client:
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.")
    except OSError:
        return False


def test_an_origin_that_is_admitted_may_change_something(daemon: DaemonFactory) -> None:
    running = daemon(env={"ARASUL_ORIGINS": "http://good.example"}).wait_ready()
    for origin, status in (("http://good.example", 200), ("http://bad.example", 403)):
        answer = running.request("POST", "/api/cache/clear", headers={"Origin": origin})
        assert answer.status == status


def test_the_engine_log_lies_where_it_is_told_and_only_its_group_may_read(
    daemon: DaemonFactory, tmp_path: Path
) -> None:
    log = tmp_path / "deep" / "er" / "engine.log"
    running = daemon("say,text=a line of the engine", env={"ARASUL_LOG_FILE": str(log)}).wait_ready()
    wait_until(lambda: log.exists() and "a line of the engine" in log.read_text(), limit_s=5, what="the line")
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert "a line of the engine" in running.log_text()  # passed on to stdout too


def test_the_engine_log_is_rotated_at_its_size_and_so_many_are_kept(
    daemon: DaemonFactory, tmp_path: Path
) -> None:
    log = tmp_path / "engine.log"
    env = {"ARASUL_LOG_FILE": str(log), "ARASUL_LOG_MAX_BYTES": "64KiB", "ARASUL_LOG_KEEP": "2"}
    running = daemon("flood,total_mb=1", env=env)
    wait_until(lambda: any(tmp_path.glob("engine.log.2*")), limit_s=10, what="the second older file")
    assert running.stop() == 0  # in the midst of a rotation there is no newest file
    assert log.stat().st_size <= 64 * 1024
    assert 60 * 1024 < (tmp_path / "engine.log.1").stat().st_size <= 64 * 1024
    assert not list(tmp_path.glob("engine.log.3*"))


@pytest.mark.parametrize(
    ("log_format", "is_json"),
    [("json", True), ("auto", True), ("console", False)],
    ids=["json", "auto", "console"],
)
def test_the_daemons_own_log_has_the_format_that_is_asked_for(
    daemon: DaemonFactory, log_format: str, is_json: bool
) -> None:
    running = daemon(env={"ARASUL_LOG_FORMAT": log_format}).wait_ready()
    running.wait_for(lambda: "api_ready" in running.log_text(), what="a line")
    line = next(line for line in running.log_text().splitlines() if "api_ready" in line)
    assert line.startswith("{") is is_json


def test_the_daemons_own_log_begins_at_the_level_that_is_asked_for(daemon: DaemonFactory) -> None:
    running = daemon(env={"ARASUL_LOG_LEVEL": "error"}).wait_ready()
    assert running.stop() == 0
    assert "engine_ready" not in running.log_text()


def test_a_start_within_the_grace_is_called_starting(daemon: DaemonFactory) -> None:
    running = daemon("never_ready", env={"ARASUL_HEALTH_GRACE": "60"}).wait_live()
    assert running.get("/health").json()["status"] == "starting"


def test_a_start_beyond_the_grace_is_called_unhealthy(daemon: DaemonFactory) -> None:
    running = daemon("never_ready", env={"ARASUL_HEALTH_GRACE": "1"}).wait_live()
    running.wait_for(
        lambda: running.get("/health").json()["status"] == "unhealthy", what="the end of the grace"
    )


def test_the_grace_does_not_begin_anew_in_a_crash_loop(daemon: DaemonFactory) -> None:
    env = {"ARASUL_HEALTH_GRACE": "1", "ARASUL_BACKOFF_BASE": "0.05", "ARASUL_START_RETRIES": "1000"}
    running = daemon("crash,message=boom", env={**env, "ARASUL_BACKOFF_MAX": "0.2"}).wait_live()
    running.wait_for(lambda: running.get("/health").json()["status"] == "unhealthy", what="unhealthy")
    end = time.monotonic() + 1
    seen = {running.get("/health").json()["status"] for _ in iter(lambda: time.monotonic() < end, False)}
    assert seen == {"unhealthy"}


def test_the_state_folder_lies_where_it_is_told_and_is_private(daemon: DaemonFactory, tmp_path: Path) -> None:
    running = daemon(env={"ARASUL_STATE_DIR": str(tmp_path / "elsewhere")}).wait_ready()
    assert (tmp_path / "elsewhere" / "lock").read_text().strip() == str(running.pid)
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o700


def test_an_alias_of_the_user_pulls_the_real_tag_under_the_asked_name(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    running = daemon(env={"ARASUL_ALIASES": "mine=tiny:q8"}).wait_ready()
    answer = running.request("POST", "/api/models/pull", body={"model": "mine"})
    assert answer.body.splitlines()[-1] == b'{"status":"success"}'
    bodies = [
        json.loads(request["body"]) for request in fake_engine.requests() if request["target"] == "/api/pull"
    ]
    assert [body.get("model", body.get("name")) for body in bodies] == ["tiny:q8"]
    assert "mine:latest" in [model["name"] for model in running.get("/api/models").json()["models"]]


def test_no_more_pulls_run_at_once_than_are_allowed(daemon: DaemonFactory) -> None:
    running = daemon("pull,lines=1000,line_s=0.05", env={"ARASUL_PULLS": "1"}).wait_ready()
    for name in ("one", "two"):
        assert running.post("/api/models/pull", {"model": name, "background": True}).status == 202
    running.wait_for(
        lambda: _states_of_pulls(running) == ["queued", "running"], what="one runs and one waits"
    )


def _states_of_pulls(daemon: Daemon) -> list[str]:
    return sorted(pull["state"] for pull in daemon.get("/api/models/pulls").json()["pulls"])


def test_config_shows_each_value_its_origin_and_its_effect(daemon: DaemonFactory) -> None:
    shown = daemon(env={"LLM_CONTEXT_LENGTH": "4096"}, arguments=("config",))
    assert shown.wait_exit() == 0
    line = next(line for line in shown.log_text().splitlines() if "LLM_CONTEXT_LENGTH" in line)
    assert "4096" in line
    assert "environment" in shown.log_text()
    assert "OLLAMA_CONTEXT_LENGTH=4096" in shown.log_text()
