"""The fake engine's runners fall ill as those of both generations do (facts/ollama.md §7)."""

from __future__ import annotations

import http.client
import os
import signal
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
)
from tests.engine.fake_running import start as start
from tests.engine.frozen_thread import thread_ticks
from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.fake import FakeEngine
    from tests.engine.fake_running import Running

TWO = "tiny:latest=450784,other:latest=450784"
BOTH = pytest.mark.parametrize("family", ["0.24", "0.34"])


@BOTH
def test_a_request_waits_while_its_runner_is_frozen(start: Callable[[str], Running], family: str) -> None:
    running = start(f"runners,family={family};tokens,s=0.02").wait_ready()
    with answering(running) as lines:
        (pid,) = runners(running)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)  # what was on its way
        n_before = len(lines)
        time.sleep(0.3)
        n_frozen = len(lines)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: len(lines) > n_frozen, limit_s=2, what="it goes on")

    assert n_frozen == n_before


@BOTH
def test_the_victim_of_a_killed_runner_is_told_and_the_next_is_answered(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family};tokens,s=0.02").wait_ready()
    with answering(running) as lines:
        (pid,) = runners(running)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: b"unexpected EOF" in lines[-1], limit_s=2, what="the error")

    assert generate(running).json()["done"] is True
    assert pid not in runners(running)


def test_a_victim_without_a_token_gets_500(start: Callable[[str], Running]) -> None:
    running = start("runners;tokens,s=10").wait_ready()
    with asked_aside(running) as answers:
        wait_until(lambda: listed(running), limit_s=5, what="it is loaded")
        port = port_of(*runners(running).values())
        wait_until(lambda: connections(port) == 1, limit_s=5, what="it is asked")
        (pid,) = runners(running)
        os.kill(pid, signal.SIGKILL)

    assert (answers[0].status, answers[0].json()["error"].endswith("unexpected EOF")) == (500, True)


@BOTH
def test_a_frozen_idle_runner_is_replaced_at_the_next_request(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family},ping_s=0.3").wait_ready()
    generate(running)
    (pid,) = runners(running)
    os.kill(pid, signal.SIGSTOP)

    answer = generate(running)

    assert answer.json()["done"] is True
    assert answer.took_s > 0.6  # asked twice
    assert not is_alive(pid)


@BOTH
def test_who_waits_for_a_frozen_busy_runner_holds_up_every_load(
    start: Callable[..., Running], family: str
) -> None:
    modes = f"runners,family={family},ping_s=0.1;tokens,s=0.02"
    running = start(modes, FAKE_OLLAMA_MODELS=TWO).wait_ready()
    with answering(running):
        (pid,) = runners(running)
        os.kill(pid, signal.SIGSTOP)
        with asked_aside(running) as waiting:
            time.sleep(0.5)
            with asked_aside(running, "other") as behind:
                time.sleep(0.3)
                before = (list(waiting), list(behind))
                os.kill(pid, signal.SIGKILL)

    assert before == ([], [])
    assert [answer.json()["done"] for answer in (*waiting, *behind)] == [True, True]


@BOTH
def test_a_stuck_compute_stands_still_while_the_runner_answers(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family};tokens,s=0.02;stuck_compute,after=2").wait_ready()
    with answering(running):
        ((pid, command),) = runners(running).items()
        time.sleep(0.2)
        ticks = sum(thread_ticks(pid).values())
        time.sleep(0.5)

        assert sum(thread_ticks(pid).values()) - ticks <= 1
        assert send(port_of(command), "GET", "/health").status == 200
        assert connections(port_of(command)) == {"0.24": 2, "0.34": 1}[family]


@BOTH
def test_a_model_that_is_stuck_in_stopping_is_listed_until_its_runner_is_dead(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family};stuck_stopping").wait_ready()
    generate(running)
    unload = running.ask("/api/generate", "POST", body={"model": "tiny", "keep_alive": 0})
    time.sleep(0.2)
    (pid,) = runners(running)

    assert unload.status == 200
    assert listed(running)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not listed(running), limit_s=2, what="it is gone")


@BOTH
def test_a_leaked_runner_has_the_same_blob_and_is_not_listed(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family};leaked_runner").wait_ready()
    generate(running)
    wait_until(lambda: len(runners(running)) == 2, limit_s=2, what="two runners")

    running.ask("/api/generate", "POST", body={"model": "tiny", "keep_alive": 0})
    wait_until(lambda: not listed(running), limit_s=2, what="it is unloaded")

    assert len(runners(running)) == 1


@BOTH
def test_an_orphan_runner_is_below_nobody_and_serves(start: Callable[[str], Running], family: str) -> None:
    running = start(f"runners,family={family};orphan_runner").wait_ready()
    wait_until(lambda: runners(running), limit_s=5, what="the orphan")

    ((pid, command),) = runners(running).items()
    wait_until(lambda: listens(port_of(command)), limit_s=5, what="it serves")

    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != running.popen.pid
    assert os.getsid(pid) == pid
    assert listed(running) == {}


@BOTH
def test_a_full_queue_refuses_loads_and_lets_loaded_models_answer(
    fake_engine: FakeEngine, start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family}").wait_ready()
    generate(running)
    fake_engine.control("queue_full")

    loaded = generate(running)
    running.ask("/api/generate", "POST", body={"model": "tiny", "keep_alive": 0})
    refused = generate(running)

    assert loaded.status == 200
    assert (refused.status, refused.json()["error"]) == (
        503,
        "server busy, please try again.  maximum pending requests exceeded",
    )


def test_the_newer_engine_says_that_a_runner_died_at_its_start(start: Callable[[str], Running]) -> None:
    running = start("runners;dying_loads,times=1").wait_ready()

    died, next_one = generate(running), generate(running)

    assert (died.status, died.json()["error"]) == (
        500,
        "llama-server process has terminated: signal: killed",
    )
    assert next_one.json()["done"] is True


def test_the_older_engine_waits_for_a_dead_load_until_its_client_leaves(
    start: Callable[[str], Running],
) -> None:
    running = start("runners,family=0.24;dying_loads,times=1").wait_ready()

    with pytest.raises(TimeoutError):
        generate(running, timeout_s=1)

    lines = running.log.read_text().count('msg="llama runner process no longer running" sys=9 string="signal')
    assert lines > 50
    assert runners(running) == {}
    assert generate(running).json()["done"] is True


@BOTH
def test_a_poison_model_ends_the_engine_and_leaves_its_runner(
    start: Callable[[str], Running], family: str
) -> None:
    running = start(f"runners,family={family};poison,model=tiny:latest").wait_ready()

    with pytest.raises((OSError, http.client.HTTPException)):
        generate(running)

    assert running.popen.wait(5) == 2
    assert len(runners(running)) == 1
    assert "goroutine 1 [running]" in running.log.read_text()
