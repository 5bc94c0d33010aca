"""Guards what is said of an engine or a runner that outgrew the container's `--memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engine.processes import wait_until
from tests.engine.store import install_model
from tests.engine.tiny_gguf import SLOW
from tests.system.ground.container import run as run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.store import ModelFiles
    from tests.system.ground.container import Run

PYTHON = "/opt/arasul-supervisor/bin/python"
# each larger than the daemon, and smaller than what the engine, which is offered to the killer, counts for
EATERS = """
import os, subprocess, sys
eaters = []
while os.path.exists(f"/proc/{sys.argv[1]}") and len(eaters) < 10:
    eat = "x = bytearray(b'x') * (60 << 20); print(flush=True); input()"
    eaters.append(subprocess.Popen([sys.executable, "-c", eat], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    eaters[-1].stdout.readline()
for eater in eaters:
    eater.kill()
"""
GENERATE = "http://127.0.0.1:11434/api/generate"
ASK = '{"model": "large", "prompt": "a", "stream": false, "options": {"use_mmap": false}}'


def limit(memory: str) -> tuple[str, ...]:
    """Options for so much memory and no swap."""
    return ("--memory", memory, "--memory-swap", memory)


def test_an_engine_killed_for_want_of_memory_is_reported_as_that(run: Run) -> None:
    container = run(*limit("300m")).wait_ready()

    container.exec(PYTHON, "-c", EATERS, str(container.process()["pid"]))

    wait_until(lambda: container.process()["restarts"] > 0, limit_s=10, what="the engine's restart")
    assert "out-of-memory" in container.process()["last_exit"]["reason"]
    assert container.state["Running"]


def test_a_runner_killed_for_want_of_memory_is_told_by_health(
    run: Run, tmp_path: Path, model_files: ModelFiles
) -> None:
    install_model(tmp_path / "models", "large", model_files(SLOW))  # 128 MB
    container = run(*limit("160m"), "--volume", f"{tmp_path}:/root/.ollama").wait_ready()

    container.exec("curl", "-sS", GENERATE, "-d", ASK)

    wait_until(lambda: "out-of-memory" in container.get("/health").body.decode(), limit_s=15, what="the loss")
    assert container.process()["restarts"] == 0
