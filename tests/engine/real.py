"""The real engine: where it is, alone as a process, and under a daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.daemon import MARKER, REPOSITORY, Answer, Daemon, send
from tests.engine.processes import kill_all_with, pick_free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.engine.daemon import DaemonFactory


@dataclass(frozen=True, slots=True)
class BareEngine:
    """An `ollama serve` without a daemon over it."""

    pid: int
    port: int
    log: Path
    store: Path

    def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = 60
    ) -> Answer:
        """One request to it."""
        return send(self.port, method, path, body=body, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def engine_binary() -> Path:
    """The real `ollama`: ARASUL_OLLAMA, the one on the PATH, or the one that `make ollama` built."""
    installed = REPOSITORY / ".cache" / "engine" / "current" / "bin" / "ollama"
    chosen = os.environ.get("ARASUL_OLLAMA") or shutil.which("ollama") or str(installed)
    if not os.access(chosen, os.X_OK):
        pytest.fail(f"There is no Ollama at {chosen}: run `make ollama`.")
    return Path(chosen)


@pytest.fixture
def real_daemon(
    daemon: DaemonFactory, engine_binary: Path, tiny_model_store: Path
) -> Callable[[Mapping[str, str | None]], Daemon]:
    """`real_daemon({"LLM_MODEL": "tiny"})`: a ready daemon over the real engine and the test's tiny model."""

    def start(env: Mapping[str, str | None]) -> Daemon:
        return daemon(engine=engine_binary, models=tiny_model_store, env=env).wait_ready(limit_s=60)

    return start


@pytest.fixture
def bare_engine(tmp_path: Path, engine_binary: Path, tiny_model_store: Path) -> Iterator[BareEngine]:
    """The real engine alone, ready, over the test's tiny model."""
    home, log, port = tmp_path / "engine-home", tmp_path / "engine.log", pick_free_port()
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "OLLAMA_MODELS": str(tiny_model_store),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
        MARKER: str(home),
    }
    command = [str(engine_binary), "serve"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    engine = BareEngine(server.pid, port, log, tiny_model_store)
    try:
        wait_until(lambda: _answers(engine), limit_s=60, what="the bare engine answers")
        yield engine
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        kill_all_with(f"{MARKER}={home}")


def _answers(engine: BareEngine) -> bool:
    try:
        return engine.request("GET", "/api/version").status == 200
    except OSError:
        return False
