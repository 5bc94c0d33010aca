"""The fake engine's runners behave as those of both generations do while all is well (facts/ollama.md §2.1, §4)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.daemon import send
from tests.engine.fake_running import (
    answering,
    asked_aside,
    connections,
    generate,
    listed,
    listens,
    port_of,
    runners,
    slot,
)
from tests.engine.fake_running import start as start
from tests.engine.frozen_thread import thread_ticks
from tests.engine.processes import wait_until
from tests.engine.store import install_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.fake_running import Running
    from tests.engine.store import ModelFiles

TWO = "tiny:latest=450784,other:latest=450784"
BOTH = pytest.mark.parametrize("family", ["0.24", "0.34"])


@BOTH
def test_a_family_is_one_generation_in_version_argv_and_name(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family}").wait_ready()

    generate(running)

    ((pid, command),) = runners(running).items()
    word = {"0.24": "runner", "0.34": "llama-server"}[family]
    assert running.ask("/api/version").json()["version"].startswith(family)
    assert f" {word} --model /models/blobs/sha256-" in command
    assert Path(f"/proc/{pid}/comm").read_text().strip() == {"runner": "ollama"}.get(word, word)
    assert os.getpgid(pid) == running.popen.pid


@pytest.mark.parametrize(
    ("family", "health", "slots_status"),
    [("0.24", {"status": 0, "progress": 1}, 404), ("0.34", {"status": "ok"}, 200)],
)
def test_an_idle_runner_says_what_its_generation_says(
    start: Callable[[str], Running], family: str, health: object, slots_status: int
) -> None:
    running = start(f"runners,family={family}").wait_ready()
    generate(running)
    port = port_of(*runners(running).values())

    assert send(port, "GET", "/health").json() == health
    assert send(port, "GET", "/slots").status == slots_status


@pytest.mark.parametrize(("family", "status"), [("0.24", 200), ("0.34", 503)])
def test_a_runner_that_loads_is_not_ready_and_not_listed(
    start: Callable[[str], Running], family: str, status: int
) -> None:
    running = start(f"runners,family={family},load_s=0.6").wait_ready()

    with asked_aside(running) as answers:
        wait_until(lambda: runners(running), limit_s=5, what="a runner")
        port = port_of(*runners(running).values())
        wait_until(lambda: listens(port), limit_s=5, what="it listens")
        health, names = send(port, "GET", "/health"), listed(running)

    assert health.status == status
    assert b'"ok"' not in health.body and b'"status": 0' not in health.body
    assert names == {}
    assert answers[0].json()["done"] is True


@BOTH
def test_the_weights_are_those_of_the_store(
    start: Callable[..., Running], tiny_model_store: Path, model_files: ModelFiles, family: str
) -> None:
    digest = install_model(tiny_model_store, "tiny", model_files())
    running = start(f"runners,family={family}", OLLAMA_MODELS=str(tiny_model_store)).wait_ready()

    generate(running)

    assert f"{tiny_model_store}/blobs/{digest.replace(':', '-')} " in " ".join(runners(running).values())


def test_the_counters_of_a_busy_runner_move_and_it_works(start: Callable[[str], Running]) -> None:
    running = start("runners;tokens,s=0.02").wait_ready()
    with answering(running):
        ((pid, command),) = runners(running).items()
        first, ticks = slot(port_of(command)), sum(thread_ticks(pid).values())
        wait_until(
            lambda: (
                slot(port_of(command))["next_token"][0]["n_decoded"] > first["next_token"][0]["n_decoded"] + 9
            ),
            limit_s=5,
            what="ten more tokens",
        )
        worked = sum(thread_ticks(pid).values()) - ticks

    assert first["is_processing"] is True
    assert worked >= 5  # ten times 12 ms in ticks of 10 ms
    wait_until(lambda: not slot(port_of(command))["is_processing"], limit_s=2, what="its client left")


def test_a_connection_to_the_runner_stands_while_a_request_is_open(start: Callable[[str], Running]) -> None:
    running = start("runners;tokens,s=0.02").wait_ready()
    with answering(running):
        port = port_of(*runners(running).values())
        during = connections(port)

    assert during == 1
    wait_until(lambda: connections(port) == 0, limit_s=2, what="it is gone with the request")


def test_the_older_engine_keeps_an_idle_connection(start: Callable[[str], Running]) -> None:
    running = start("runners,family=0.24").wait_ready()

    generate(running)

    assert connections(port_of(*runners(running).values())) == 1


@BOTH
def test_a_model_expires_after_its_last_request(start: Callable[[str], Running], family: str) -> None:
    running = start(f"runners,family={family};tokens,s=0.05").wait_ready()

    generate(running, keep_alive=1, options={"num_predict": 24})  # 1.2 s, longer than it is kept
    time.sleep(0.2)
    names = listed(running)

    assert list(names) == ["tiny:latest"]
    wait_until(lambda: not listed(running) and not runners(running), limit_s=3, what="it is gone")


def test_an_expiry_in_the_past_is_seen_during_a_long_answer_after_an_unload(
    start: Callable[[str], Running],
) -> None:
    running = start("runners;tokens,s=0.05").wait_ready()
    with answering(running) as lines:
        running.ask("/api/generate", "POST", body={"model": "tiny", "keep_alive": 0})
        time.sleep(1.1)  # it is told in whole seconds
        expires_at, n_lines = listed(running)["tiny:latest"], len(lines)
        wait_until(lambda: len(lines) > n_lines, limit_s=2, what="it goes on answering")

    assert expires_at < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    wait_until(lambda: not listed(running), limit_s=2, what="it goes with the answer")
