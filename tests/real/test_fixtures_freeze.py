"""The faults of facts/ollama.md §11 are brought about as they are meant: what stands still, and what lives on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.daemon import Answer, send
from tests.engine.frozen_process import frozen_again, on_each_load
from tests.engine.frozen_thread import frozen_compute_thread, thread_ticks
from tests.engine.healing_clients import Client, asking
from tests.engine.healing_ground import LONG_ANSWER
from tests.engine.processes import is_alive, pids_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.real import BareEngine


@contextlib.contextmanager
def answering(engine: BareEngine, *, n_tokens: int = LONG_ANSWER) -> Iterator[tuple[Client, int]]:
    """A client in the middle of an answer, and the runner that makes it."""
    client = Client(engine.port, "tiny", n_tokens)
    with asking(client, client.ask_once):
        wait_until(lambda: len(client.tokens_mono) > 20, limit_s=30, what="twenty tokens")
        yield client, runner_of(engine)


def runner_of(engine: BareEngine) -> int:
    folder = str(engine.log.parent)
    return next(pid for pid, command in pids_with(folder).items() if " --model " in command)


def slot(runner: int) -> Any:  # Any: JSON
    argv = Path(f"/proc/{runner}/cmdline").read_bytes().split(b"\0")
    port = int(argv[argv.index(b"--port") + 1])
    return send(port, "GET", "/slots", timeout_s=1).json()[0]


def progress(runner: int) -> tuple[int, int]:
    seen = slot(runner)
    return seen["n_prompt_tokens_processed"], seen["next_token"][0]["n_decoded"]


def generate(engine: BareEngine, model: str = "tiny", *, timeout_s: float = 60) -> Answer:
    body = {"model": model, "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    return engine.request("POST", "/api/generate", body, timeout_s=timeout_s)


def test_a_frozen_compute_thread_stands_still_and_the_runner_answers(bare_engine: BareEngine) -> None:
    with answering(bare_engine) as (client, runner), frozen_compute_thread(runner):
        first, ticks, n_tokens = progress(runner), sum(thread_ticks(runner).values()), len(client.tokens_mono)
        time.sleep(1)

        assert slot(runner)["is_processing"] is True
        assert progress(runner) == first
        assert sum(thread_ticks(runner).values()) - ticks <= 1
        assert len(client.tokens_mono) - n_tokens <= 2  # what was on its way


def test_a_runner_with_a_frozen_thread_is_killed_at_once(bare_engine: BareEngine) -> None:
    with answering(bare_engine) as (client, runner), frozen_compute_thread(runner):
        killed_mono = time.monotonic()
        os.kill(runner, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{runner}").exists(), limit_s=5, what="it is reaped")
        gone_s = time.monotonic() - killed_mono
        wait_until(client.is_over.is_set, limit_s=5, what="its client is told")

    assert gone_s < 0.5
    assert "unexpected EOF" in client.errors[0][1]
    assert generate(bare_engine).json()["done"] is True


def test_a_thread_that_thaws_goes_on_as_if_nothing_had_been(bare_engine: BareEngine) -> None:
    with answering(bare_engine, n_tokens=1000) as (client, runner):
        with frozen_compute_thread(runner):
            time.sleep(0.5)
        wait_until(client.is_over.is_set, limit_s=30, what="the end of the answer")

    assert (client.answers, client.errors) == (1, [])


def test_a_process_that_is_frozen_again_does_not_get_on(bare_engine: BareEngine) -> None:
    with answering(bare_engine) as (client, runner), frozen_again(runner) as stops:
        wait_until(lambda: stops, limit_s=2, what="it is stopped")
        os.kill(runner, signal.SIGCONT)
        wait_until(lambda: len(stops) == 2, limit_s=2, what="it is stopped again")
        time.sleep(0.2)  # what was on its way has come
        n_tokens = len(client.tokens_mono)
        time.sleep(0.5)

        assert len(client.tokens_mono) == n_tokens
        assert is_alive(runner)
        os.kill(runner, signal.SIGKILL)
        wait_until(lambda: not is_alive(runner), limit_s=2, what="SIGKILL ends it all the same")


def test_a_load_is_frozen_before_its_model_is_there(bare_engine: BareEngine) -> None:
    with on_each_load(bare_engine.pid, signal.SIGSTOP) as met:
        with pytest.raises(TimeoutError):
            generate(bare_engine, timeout_s=2)
        names = bare_engine.request("GET", "/api/ps").json()["models"]

    assert len(met) == 1
    assert names == []


def test_loads_that_are_met_die_and_the_next_is_well(bare_engine: BareEngine) -> None:
    with on_each_load(bare_engine.pid, signal.SIGKILL, n_loads=2) as met:
        statuses = [generate(bare_engine).status for _ in range(3)]

    assert (len(met), statuses) == (2, [500, 500, 200])
