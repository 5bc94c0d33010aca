"""What a scenario of healing stands on: a daemon with short limits over an engine with a few models, clients that note
what they see, and the incidents that the daemon writes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine import tiny_gguf
from tests.engine.daemon import REPOSITORY
from tests.engine.fault_ground import Start
from tests.engine.faults_of_starts import wrap_llama_server
from tests.engine.healing_clients import Client, asking
from tests.engine.processes import pids_with, wait_until
from tests.engine.store import install_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.store import ModelFiles

MODELS = {
    "tiny": tiny_gguf.NORMAL,
    "other": tiny_gguf.OTHER,
    "small": tiny_gguf.SMALLEST,
    "alias": tiny_gguf.NORMAL,  # the weights of `tiny` under another name
}
SHORT = {
    "ARASUL_STUCK_SECONDS": "4",
    "ARASUL_SILENT_SECONDS": "3",
    "ARASUL_LOAD_STUCK_SECONDS": "4",
    "ARASUL_LOW_MEMORY_SECONDS": "3",
    "ARASUL_HEAL": "act",
    "ARASUL_BACKOFF_BASE": "0.2",
}
LONG_ANSWER = 20_000  # tokens; 36 s on two cores, with nothing beside it

# Commanded by a file beside the wrapper: `hang` stands still instead of loading, without state T and without a child;
# `die` ends as a process that the kernel kills; `orphan` starts one more runner of the same model, which loses its
# parents at once. Discovery is left alone.
LEAVE = """
import os, socket, sys
argv = sys.argv[1:]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    argv[argv.index("--port") + 1] = str(probe.getsockname()[1])
os.posix_spawn(argv[0], argv, os.environ, setsid=True)
"""
COMMANDED = f"""case "$*" in *--model*)
case "$(cat "$0.command" 2>/dev/null)" in
hang) exec '{sys.executable}' -S -E -c 'import time; time.sleep(3600)' "$@" ;;
die) kill -KILL $$ ;;
orphan) '{sys.executable}' -S -E -c '{LEAVE}' "$REAL" "$@" ;;
esac ;; esac
exec "$REAL" "$@\""""


@dataclass(frozen=True, slots=True)
class HealingGround:
    """A ready daemon over an engine, and the models that it may load."""

    daemon: Daemon
    blobs: Mapping[str, str]  # digest of the weights by name of the model
    command_file: Path | None = None  # of the wrapper around llama-server, see `commanded`
    fake: FakeEngine | None = None

    @contextlib.contextmanager
    def generating(self, model: str, *, n_tokens: int = 200) -> Iterator[Client]:
        """A client that asks that model again and again, inside; a token has come."""
        client = Client(self.daemon.engine_port, model, n_tokens)
        with asking(client, client.ask_again_and_again):
            wait_until(lambda: client.tokens_mono, limit_s=30, what=f"the first token of {model}")
            yield client

    @contextlib.contextmanager
    def asking_in_vain(self, model: str) -> Iterator[Client]:
        """A client that asks again and again, and is refused, inside."""
        client = Client(self.daemon.engine_port, model, 4)
        with asking(client, client.ask_again_and_again):
            wait_until(lambda: client.errors, limit_s=30, what=f"a refusal of {model}")
            yield client

    @contextlib.contextmanager
    def answering(
        self, model: str, *, n_tokens: int = LONG_ANSWER, keep_alive: float | None = None
    ) -> Iterator[Client]:
        """A client in the middle of one long answer, inside. At the end it leaves, if it is not over."""
        client = Client(self.daemon.engine_port, model, n_tokens, keep_alive)
        with asking(client, client.ask_once):
            wait_until(lambda: client.tokens_mono, limit_s=30, what=f"the first token of {model}")
            yield client

    @contextlib.contextmanager
    def waiting(self, model: str, *, n_tokens: int = 4) -> Iterator[Client]:
        """A client that may have to wait for its first token, inside."""
        client = Client(self.daemon.engine_port, model, n_tokens)
        with asking(client, client.ask_once):
            yield client

    def load(self, model: str, *, keep_alive: float = 300) -> int:
        """Load the model, and return when it rests; pid of its runner."""
        body = {"model": model, "keep_alive": keep_alive}
        answer = self.daemon.engine("POST", "/api/generate", body)
        assert answer.json().get("done") is True, answer.body
        return self.runner_of(model)

    def unload(self, model: str) -> None:
        """Ask Ollama to drop it, and believe nothing."""
        self.daemon.engine("POST", "/api/generate", {"model": model, "keep_alive": 0})

    def listed(self) -> list[str]:
        """The names in `/api/ps`."""
        return [one["name"] for one in self.daemon.engine("GET", "/api/ps").json()["models"]]

    def runners(self) -> dict[int, str]:
        """Pid of every runner that this daemon's engine made and that lives, with the digest of its weights."""
        found = {}
        for pid, command in pids_with(self.daemon.marker).items():
            if " --model " in command:
                blob = command.partition(" --model ")[2].split()[0]
                found[pid] = Path(blob).name.replace("-", ":")
        return found

    def runner_of(self, model: str) -> int:
        """Pid of the one runner of that model; waits for it."""

        def mine() -> list[int]:
            return [pid for pid, blob in self.runners().items() if blob == self.blobs[model]]

        wait_until(lambda: len(mine()) == 1, limit_s=30, what=f"one runner of {model}")
        return mine()[0]

    @property
    def engine_pid(self) -> int:
        """The process of `ollama serve`."""
        pid: int = self.daemon.process()["pid"]
        return pid

    def order(self, word: str) -> None:
        """Command the wrapper around llama-server: `hang`, `die`, or nothing more."""
        assert self.command_file is not None, "this ground has no wrapper: start it with is_commanded"
        self.command_file.write_text(word, encoding="utf-8")

    def incidents(self) -> list[dict[str, Any]]:  # Any: tests look into it freely
        """GET /api/incidents, oldest first."""
        found: list[dict[str, Any]] = self.daemon.get("/api/incidents?limit=200").json()["incidents"]
        return found[::-1]

    def incident(self, incident_id: str) -> dict[str, Any]:  # Any: as above
        """One of them, with its steps and witnesses."""
        found: dict[str, Any] = self.daemon.get(f"/api/incidents/{incident_id}").json()
        return found

    def wait_closed(self, kind: str, *, limit_s: float, at_least: int = 1) -> dict[str, Any]:  # Any: as above
        """Wait until so many incidents of that kind are over; the newest of them, whole.

        Fails with all incidents and the daemon's log when it takes longer.
        """
        end = time.monotonic() + limit_s
        while True:
            over = [one for one in self.incidents() if one["kind"] == kind and one["result"] != "open"]
            if len(over) >= at_least:
                return self.incident(over[-1]["id"])
            if time.monotonic() > end:
                seen = json.dumps(self.incidents(), indent=1)
                own = [
                    line for line in self.daemon.log_text().splitlines() if '"source":"ollama"' not in line
                ]
                pytest.fail("\n".join((f"no {kind} over within {limit_s:g} s", seen, *own[-40:])))
            time.sleep(0.05)

    def start_orphan(self, model: str) -> int:
        """Load the model, and one more runner of it that loses its parents at once: the daemon's to adopt; its pid."""
        before = set(self.runners())
        self.order("orphan")
        body = {"model": model, "keep_alive": 300}
        assert self.daemon.engine("POST", "/api/generate", body).status == 200
        self.order("")

        def orphans() -> list[int]:
            return [pid for pid in set(self.runners()) - before if os.getsid(pid) == pid]

        wait_until(orphans, limit_s=10, what="the orphan")
        return orphans()[0]


def start_real(
    daemons: DaemonFactory,
    engine: Path,
    folder: Path,
    model_files: ModelFiles,
    *,
    models: tuple[str, ...] = ("tiny", "other"),
    env: Mapping[str, str | None] | None = None,
    is_commanded: bool = False,
) -> HealingGround:
    """A ready daemon over the real engine.

    :param folder: empty; the store lies there
    :param is_commanded: with a wrapper around llama-server that `order` commands
    """
    store, command_file = folder / "store", None
    blobs = {name: install_model(store, name, model_files(MODELS[name])) for name in models}
    if is_commanded:
        engine, command_file = commanded(engine, folder)
    daemon = daemons(
        engine=engine, models=store, env={**SHORT, "OLLAMA_CONTEXT_LENGTH": "2048", **(env or {})}
    )
    return HealingGround(daemon.wait_ready(limit_s=60), blobs, command_file)


def start_fake(
    daemons: DaemonFactory,
    fake: FakeEngine,
    folder: Path,
    model_files: ModelFiles,
    modes: str,
    *,
    models: tuple[str, ...] = ("tiny", "other"),
    env: Mapping[str, str | None] | None = None,
) -> HealingGround:
    """A ready daemon over the fake engine, whose runners name weights that lie in a store."""
    store = folder / "store"
    blobs = {name: install_model(store, name, model_files(MODELS[name])) for name in models}
    installed = {"FAKE_OLLAMA_MODELS": ",".join(f"{name}:latest=450784" for name in models)}
    daemon = daemons(modes, models=store, env={**SHORT, **installed, **(env or {})})
    return HealingGround(daemon.wait_ready(limit_s=30), blobs, fake=fake)


def find_engine() -> Path:
    """The real `ollama`, as the fixture `engine_binary` finds it; for what runs without pytest."""
    installed = REPOSITORY / ".cache" / "engine" / "current" / "bin" / "ollama"
    chosen = os.environ.get("ARASUL_OLLAMA") or shutil.which("ollama") or str(installed)
    if not os.access(chosen, os.X_OK):
        sys.exit(f"There is no Ollama at {chosen}: run `make ollama`.")
    return Path(chosen)


def commanded(engine: Path, folder: Path) -> tuple[Path, Path]:
    """The engine with a wrapper around its llama-server, and the file that commands the wrapper."""
    with contextlib.ExitStack() as at_end:
        start = Start(folder, engine, folder / "store", 0, {}, at_end)
        wrap_llama_server(COMMANDED)(start)
    return start.binary, start.binary.parents[1] / "lib" / "ollama" / "llama-server.command"
