"""Guards that what befalls a real runner is seen from outside, and that ending one leaves the others working."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.healing.looking.runner_questions import RunnerQuestions
from arasul_supervisor.healing.looking.witnesses import Answering
from arasul_supervisor.supervision import strays
from arasul_supervisor.supervision.ports import connections_to
from arasul_supervisor.supervision.process_reading import RunnerReader
from arasul_supervisor.supervision.process_signals import continue_processes, end_processes
from tests.engine.daemon import MARKER
from tests.engine.frozen_thread import frozen_compute_thread
from tests.engine.processes import is_alive, wait_until
from tests.engine.store import install_model
from tests.engine.tiny_gguf import OTHER, SLOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from arasul_supervisor.healing.looking.witnesses import SlotsLook
    from arasul_supervisor.supervision.process_looks import RunnerProcess
    from tests.engine.real import BareEngine
    from tests.engine.store import ModelFiles

QUESTIONS = RunnerQuestions(SystemClock())
A_WHILE_S = 0.4
AN_ANSWER_S = 1.0


def generate(engine: BareEngine, model: str = "tiny") -> None:
    body = {"model": model, "prompt": "a", "stream": False, "options": {"num_predict": 2}}
    assert engine.request("POST", "/api/generate", body).status == 200


@contextmanager
def answering(engine: BareEngine, model: str = "tiny") -> Iterator[http.client.HTTPResponse]:
    """It is in the middle of an answer of half a minute, inside; its lines can be read on."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
    body = {"model": model, "prompt": "a", "options": {"num_predict": 100_000, "seed": 1}}
    connection.request("POST", "/api/generate", body=json.dumps(body))
    answer = connection.getresponse()
    try:
        answer.readline()
        yield answer
    finally:
        answer.close()
        connection.close()


def runners(engine: BareEngine, reader: RunnerReader | None = None) -> list[RunnerProcess]:
    return sorted((reader or RunnerReader()).read(engine.pid, ""), key=lambda seen: seen.process.identity[1])


def runner(engine: BareEngine) -> RunnerProcess:
    (found,) = runners(engine)
    return found


def ask(
    seen: RunnerProcess, *, wants_slots: bool = False, timeout_s: float = 1
) -> tuple[Answering, SlotsLook | None]:
    return asyncio.run(QUESTIONS.ask(seen.port or 0, wants_slots=wants_slots, timeout_s=timeout_s))


def slots(seen: RunnerProcess) -> SlotsLook:
    answering, found = ask(seen, wants_slots=True)
    assert (answering, found is not None) == (Answering.READY, True)
    assert found is not None
    return found


def probe(seen: RunnerProcess, *, timeout_s: float = 5) -> bool | None:
    return asyncio.run(QUESTIONS.probe(seen.port or 0, is_llama_server=True, timeout_s=timeout_s))


def peers(seen: RunnerProcess) -> int:
    found = connections_to([seen.port or 0])
    assert found is not None
    return len(found[seen.port or 0].peers)


def test_an_idle_runner_uses_nothing_and_nobody_is_connected(bare_engine: BareEngine) -> None:
    generate(bare_engine)
    before = runner(bare_engine)
    wait_until(lambda: peers(before) == 0, limit_s=AN_ANSWER_S, what="its request is closed")
    before = runner(bare_engine)
    time.sleep(A_WHILE_S)
    after = runner(bare_engine)
    assert after.process == before.process
    assert (after.process.state, after.process.is_runnable, after.is_orphan) == ("S", False, False)


def test_a_question_for_the_health_writes_no_line(bare_engine: BareEngine) -> None:
    generate(bare_engine)
    seen = runner(bare_engine)
    time.sleep(A_WHILE_S)  # what the answer leaves behind in the log is written by a thread of llama-server's
    before = bare_engine.log.stat().st_size
    assert [ask(seen)[0] for _ in range(3)] == [Answering.READY] * 3
    time.sleep(A_WHILE_S)
    assert bare_engine.log.stat().st_size == before


def test_a_busy_runner_works_for_one_connection_and_its_slots_move(bare_engine: BareEngine) -> None:
    with answering(bare_engine):
        before, moved = runner(bare_engine), slots(runner(bare_engine))
        assert peers(before) == 1
        wait_until(lambda: slots(before).progress != moved.progress, limit_s=5, what="the slots move")
        assert slots(before).is_busy
        time.sleep(A_WHILE_S)
        assert runner(bare_engine).process.cpu_ticks > before.process.cpu_ticks


def test_the_connection_is_gone_with_the_request(bare_engine: BareEngine) -> None:
    with answering(bare_engine):
        seen = runner(bare_engine)
    wait_until(lambda: peers(seen) == 0, limit_s=AN_ANSWER_S, what="the connection is gone")


def test_a_question_of_ours_is_no_connection_any_more_when_it_is_answered(bare_engine: BareEngine) -> None:
    generate(bare_engine)
    seen = runner(bare_engine)
    wait_until(lambda: peers(seen) == 0, limit_s=AN_ANSWER_S, what="its request is closed")
    assert [(ask(seen)[0], peers(seen)) for _ in range(20)] == [(Answering.READY, 0)] * 20


def test_a_stopped_runner_is_silent_and_its_request_stays_open(bare_engine: BareEngine) -> None:
    with answering(bare_engine):
        os.kill(runner(bare_engine).process.pid, signal.SIGSTOP)
        wait_until(lambda: runner(bare_engine).process.state == "T", limit_s=5, what="it stops")
        before = runner(bare_engine)
        assert ask(before, timeout_s=0.2) == (Answering.SILENT, None)
        assert (peers(before), runner(bare_engine).process.cpu_ticks) == (1, before.process.cpu_ticks)


def test_a_stopped_runner_that_is_continued_goes_on_with_its_answer(bare_engine: BareEngine) -> None:
    with answering(bare_engine) as answer:
        seen = runner(bare_engine)
        os.kill(seen.process.pid, signal.SIGSTOP)
        wait_until(lambda: runner(bare_engine).process.state == "T", limit_s=5, what="it stops")
        assert continue_processes([seen.process.identity]) == {seen.process.identity}
        before = slots(seen)
        wait_until(lambda: slots(seen).progress != before.progress, limit_s=5, what="the slots move")
        assert b'"done":false' in answer.readline()


def test_a_runner_whose_computation_stands_still_answers_and_its_slots_do_not_move(
    bare_engine: BareEngine,
) -> None:
    with answering(bare_engine):
        seen = runner(bare_engine)
        with frozen_compute_thread(seen.process.pid):
            before = slots(seen)
            time.sleep(A_WHILE_S)
            assert (before.is_busy, slots(seen)) == (True, before)


def test_one_of_two_runners_is_ended_and_the_other_goes_on_with_its_answer(
    bare_engine: BareEngine, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    install_model(tiny_model_store, "other", model_files(OTHER))
    generate(bare_engine)
    victim = runner(bare_engine)
    with answering(bare_engine, "other") as answer:
        began = time.monotonic()
        ends = end_processes([victim.process.identity], bound_s=2)
        took_s = time.monotonic() - began
        assert ends.killed == {victim.process.identity}
        assert took_s < 1
        assert runner(bare_engine).blob != victim.blob
        before = slots(runner(bare_engine))
        wait_until(lambda: slots(runner(bare_engine)) != before, limit_s=5, what="the other goes on")
        assert b'"done":false' in answer.readline()


def test_a_runner_that_died_is_not_there(bare_engine: BareEngine) -> None:
    generate(bare_engine)
    seen = runner(bare_engine)
    os.kill(seen.process.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(seen.process.pid), limit_s=5, what="it is dead")
    assert runners(bare_engine) == []
    assert ask(seen) == (Answering.CLOSED, None)


def test_a_load_is_seen_from_its_first_moment_until_it_is_done(
    bare_engine: BareEngine, tiny_model_store: Path, model_files: ModelFiles
) -> None:
    install_model(tiny_model_store, "slow", model_files(SLOW))
    loading = threading.Thread(target=generate, args=(bare_engine, "slow"))
    loading.start()
    wait_until(lambda: runners(bare_engine) != [], limit_s=30, what="the runner appears")
    first = runner(bare_engine)
    told = [ask(first)[0]]
    while told[-1] is not Answering.READY:
        told.append(ask(first)[0])
    moved = (runner(bare_engine).process.moved_bytes or 0) - (first.process.moved_bytes or 0)
    loading.join()
    assert set(told) <= {Answering.CLOSED, Answering.LOADING, Answering.READY}
    assert Answering.LOADING in told
    assert moved > 100_000_000


def test_runners_that_outlive_their_engine_are_orphans(
    bare_engine: BareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strays, "MARKER_VARIABLE", MARKER)
    generate(bare_engine)
    reader = RunnerReader()
    (seen,) = runners(bare_engine, reader)
    os.kill(bare_engine.pid, signal.SIGKILL)
    wait_until(lambda: runners(bare_engine, reader)[0].is_orphan, limit_s=5, what="it has another parent")
    assert [left.process.identity for left in runners(bare_engine, reader)] == [seen.process.identity]


def test_a_probe_makes_one_token_and_changes_nothing(bare_engine: BareEngine) -> None:
    generate(bare_engine)
    seen = runner(bare_engine)
    before = bare_engine.request("GET", "/api/ps").json()
    assert probe(seen) is True
    assert bare_engine.request("GET", "/api/ps").json() == before
    assert runner(bare_engine).process.identity == seen.process.identity


def test_a_probe_of_a_runner_whose_computation_stands_still_brings_no_token(bare_engine: BareEngine) -> None:
    with answering(bare_engine):
        seen = runner(bare_engine)
        with frozen_compute_thread(seen.process.pid):
            assert probe(seen, timeout_s=0.5) is False
