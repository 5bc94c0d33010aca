"""What a person sees of a real Ollama under the daemon: the story of a model, deaths by the hundred, and a freeze."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.processes import pids_with, wait_until
from tests.engine.store import install_model
from tests.engine.tiny_gguf import OTHER

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles


def runners(daemon: Daemon) -> list[int]:
    """Pids of the model runners of this daemon's engine."""
    return [pid for pid, command in pids_with(daemon.marker).items() if "--model" in command]


def wait_for_restart(daemon: Daemon, n: int) -> None:
    """Wait until the engine runs again after its n-th death."""
    daemon.wait_for(lambda: daemon.process()["restarts"] == n, what=f"restart {n}")
    daemon.wait_state("running")


def test_a_box_without_models_is_healthy_within_seconds(daemon: DaemonFactory, engine_binary: Path) -> None:
    began = time.monotonic()
    running = daemon(engine=engine_binary).wait_ready(limit_s=30)
    running.wait_for(
        lambda: running.get("/health").status == 200, what="200", limit_s=30 - (time.monotonic() - began)
    )
    health = running.get("/health").json()
    assert health["status"] == "healthy"
    assert health["models"] == []
    assert health["checks"]["api"]["status"] == "ok"


def test_the_story_of_a_model_through_11436(
    daemon: DaemonFactory, engine_binary: Path, registry: Registry, model_files: ModelFiles
) -> None:
    name = registry.put("tiny", model_files())
    running = daemon(engine=engine_binary, env={"LLM_MODEL": name, "LLM_CONTEXT_LENGTH": "512"}).wait_ready(
        limit_s=60
    )

    pulled = running.request("POST", "/api/models/pull", body={"model": name, "insecure": True}, timeout_s=60)
    assert pulled.status == 200
    assert pulled.body.splitlines()[-1] == b'{"status":"success"}'

    listed = running.get("/api/models").json()
    assert listed["count"] == 1
    model = listed["models"][0]
    assert (model["name"], model["format"], model["family"]) == (name, "gguf", "llama")
    assert (model["parameter_size"], model["quantization"]) == ("111K", "F32")
    assert model["digest"].startswith("sha256:")

    reset = running.request("POST", "/api/session/reset", timeout_s=60)
    assert reset.status == 200
    assert reset.json()["message"] == f"Session reset, reloaded {name}"

    loaded = running.get("/api/models/loaded").json()
    assert [(entry["name"], entry["context_length"]) for entry in loaded["loaded_models"]] == [(name, 512)]

    prompt = {"model": name, "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    said = running.engine("POST", "/api/generate", prompt)
    assert said.json()["done"] is True

    cleared = running.post("/api/cache/clear")
    assert cleared.json()["unloaded_models"] == [name]
    assert running.get("/api/models/loaded").json()["count"] == 0
    assert "already clear" in running.post("/api/cache/clear").json()["message"].lower()

    deleted = running.request("DELETE", "/api/models/delete", body={"model": name})
    assert deleted.status == 200
    assert deleted.json()["freed_bytes"] > 400_000
    assert running.get("/api/models").json()["count"] == 0


def test_a_hundred_deaths_are_a_hundred_restarts_and_no_survivor(real_daemon: Any) -> None:
    running: Daemon = real_daemon(
        {"ARASUL_STABLE_SECONDS": "0", "LLM_MODEL": "tiny", "ARASUL_RESTORE": "off"}
    )
    running.request("POST", "/api/session/reset", timeout_s=60)
    assert len(runners(running)) == 1
    old = [*runners(running)]
    for n in range(1, 101):
        before = running.process()
        old.append(before["pid"])
        os.kill(before["pid"], signal.SIGKILL)
        wait_for_restart(running, n)
    process = running.process()
    assert process["restarts"] == 100
    assert process["last_exit"]["signal"] == signal.SIGKILL
    wait_until(lambda: bool(running.process()["last_exit"]["log_tail"]), limit_s=5, what="the last lines")
    living = pids_with(running.marker)
    assert [pid for pid in old if pid in living] == []
    engines = [pid for pid, command in living.items() if command.endswith("ollama serve")]
    assert engines == [process["pid"]]


def test_sigkill_of_the_daemon_takes_engine_and_runner_along(real_daemon: Any) -> None:
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})
    running.request("POST", "/api/session/reset", timeout_s=60)
    assert len(runners(running)) == 1
    running.signal(signal.SIGKILL)
    running.wait_exit()
    assert running.survivors() == {}


def test_sigterm_takes_engine_and_runner_along(real_daemon: Any) -> None:
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})
    running.request("POST", "/api/session/reset", timeout_s=60)
    assert running.stop() == 0
    assert running.survivors() == {}


def test_a_frozen_engine_is_told_in_time_and_truthfully(real_daemon: Any) -> None:
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})
    running.request("POST", "/api/session/reset", timeout_s=60)
    pid = running.process()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        running.wait_for(lambda: running.get("/health").status == 503, what="503", limit_s=5)
        cleared = running.request("POST", "/api/cache/clear", timeout_s=6)
        assert cleared.status == 504
        assert cleared.took_s < 5.5
        assert cleared.json()["status"] == "error"
        assert running.get("/api/models").took_s < 3.5
    finally:
        os.kill(pid, signal.SIGCONT)
    running.wait_for(lambda: running.get("/health").status == 200, what="200 again", limit_s=10)
    assert running.process()["restarts"] == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_an_end_that_leaves_runners_behind_leaves_none_here(real_daemon: Any, number: int) -> None:
    running: Daemon = real_daemon({"LLM_MODEL": "tiny", "ARASUL_STABLE_SECONDS": "0"})
    running.request("POST", "/api/session/reset", timeout_s=60)
    old = runners(running)
    os.kill(running.process()["pid"], number)
    running.wait_for(lambda: running.process()["restarts"] == 1, what="the restart")
    running.wait_state("running")
    assert [pid for pid in old if pid in pids_with(running.marker)] == []


def test_a_model_deleted_while_loaded_is_ended_by_force_and_haunts_nobody(
    real_daemon: Any, model_files: ModelFiles
) -> None:
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})
    install_model(Path(running.environment["OLLAMA_MODELS"]), "other", model_files(OTHER))
    assert running.engine("POST", "/api/generate", {"model": "other", "keep_alive": -1}).status == 200
    assert running.engine("DELETE", "/api/delete", {"model": "other"}).status == 200

    plain = running.post("/api/cache/clear").json()
    assert plain["status"] == "partial"
    assert "Deleted while loaded" in plain["message"]
    forced = running.post("/api/cache/clear", {"force": True}).json()
    assert (forced["status"], forced["unloaded_models"]) == ("success", ["other:latest"])

    assert runners(running) == []
    assert running.get("/api/models/loaded").json()["count"] == 0
    assert "already clear" in running.post("/api/cache/clear").json()["message"]
    assert running.request("POST", "/api/session/reset", timeout_s=60).status == 200
