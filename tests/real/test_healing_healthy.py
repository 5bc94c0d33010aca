"""What is slow is not sick: with limits of a few seconds nothing of this is ever taken for a fault."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine import tiny_gguf
from tests.engine.frozen_thread import held_threads
from tests.engine.healing_clients import Client, asking
from tests.engine.healing_ground import HealingGround, start_real
from tests.engine.processes import wait_until
from tests.engine.store import install_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.daemon import DaemonFactory
    from tests.engine.store import ModelFiles

LIMITS = {
    "ARASUL_STUCK_SECONDS": "3",
    "ARASUL_SILENT_SECONDS": "3",
    "ARASUL_LOAD_STUCK_SECONDS": "3",
    "OLLAMA_CONTEXT_LENGTH": "16384",
}
WATCHED_S = 9.0
"""Three times the longest limit."""
SLOW = replace(tiny_gguf.SLOW, context=16_384)


@pytest.fixture
def start(daemon: DaemonFactory, engine_binary: Path, tmp_path: Path, model_files: ModelFiles) -> Starter:
    return Starter(daemon, engine_binary, tmp_path, model_files)


class Starter:
    """Starts a ready daemon over the real engine, with limits of three seconds."""

    def __init__(self, daemons: DaemonFactory, engine: Path, folder: Path, files: ModelFiles) -> None:
        self._daemons, self._engine, self._folder, self.files = daemons, engine, folder, files

    def __call__(self, **env: str) -> HealingGround:
        return start_real(self._daemons, self._engine, self._folder, self.files, env={**LIMITS, **env})

    @property
    def store(self) -> Path:
        """Where its models lie."""
        return self._folder / "store"


@pytest.mark.long
def test_a_long_prompt_is_left_alone(start: Starter) -> None:
    install_model(start.store, "slow", start.files(SLOW))
    ground = start()
    ground.daemon.engine("POST", "/api/generate", {"model": "slow"})
    client = Client(ground.daemon.engine_port, "slow", 1, prompt="a" * 15_000)
    with asking(client, client.ask_once):
        time.sleep(WATCHED_S)

        assert not client.tokens_mono, "the prompt was too short to prove anything"
        assert ground.incidents() == []


@pytest.mark.long
def test_a_client_that_does_not_read_is_waited_for(start: Starter) -> None:
    ground = start()
    with not_reading(ground, n_tokens=150_000):
        wait_until(lambda: n_decoded(ground) > 0, limit_s=30, what="the answer begins")
        wait_until(lambda: not is_moving(ground), limit_s=60, what="the answer is held up")
        time.sleep(WATCHED_S)

        assert ground.incidents() == []


@pytest.mark.long
def test_a_full_queue_behind_a_working_runner_is_left_alone(start: Starter) -> None:
    ground = start(OLLAMA_MAX_QUEUE="1", OLLAMA_MAX_LOADED_MODELS="1")
    with (
        ground.answering("tiny", n_tokens=150_000),
        ground.waiting("other"),
        ground.waiting("other"),
    ):
        time.sleep(1)  # until both wait
        with ground.asking_in_vain("other") as refused:
            time.sleep(WATCHED_S)

            assert "maximum pending requests exceeded" in refused.errors[-1][1]
            assert ground.incidents() == []


@pytest.mark.long
def test_a_runner_under_a_debugger_is_not_judged(start: Starter) -> None:
    ground = start()
    with ground.answering("tiny", n_tokens=150_000) as client:
        runner = ground.runner_of("tiny")
        with held_threads([int(task.name) for task in Path(f"/proc/{runner}/task").iterdir()]):
            time.sleep(WATCHED_S)

            assert ground.incidents() == []
        assert client.errors == []


@contextlib.contextmanager
def not_reading(ground: HealingGround, *, n_tokens: int) -> Iterator[None]:
    """A client of `tiny` that asks for a long answer in long lines, and reads none of it."""
    body = {"model": "tiny", "prompt": "a", "logprobs": True, "top_logprobs": 20}
    with contextlib.closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", ground.daemon.engine_port))
        connection = http.client.HTTPConnection("127.0.0.1", ground.daemon.engine_port)
        connection.sock = sock
        connection.request(
            "POST", "/api/generate", body=json.dumps({**body, "options": {"num_predict": n_tokens}})
        )
        yield


def is_moving(ground: HealingGround) -> bool:
    """Whether the runner of `tiny` has made tokens within half a second."""
    before = n_decoded(ground)
    time.sleep(0.5)
    return n_decoded(ground) != before


def n_decoded(ground: HealingGround) -> int:
    """How many tokens the runner of `tiny` has made of its answer; 0 before it answers."""
    argv = Path(f"/proc/{ground.runner_of('tiny')}/cmdline").read_bytes().split(b"\0")
    try:
        answer = ground.daemon.request("GET", "/slots", port=int(argv[argv.index(b"--port") + 1]))
    except ConnectionRefusedError:
        return 0
    if answer.status != 200:
        return 0
    return sum(token["n_decoded"] for slot in answer.json() for token in slot.get("next_token", ()))
