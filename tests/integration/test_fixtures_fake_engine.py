"""The fake engine does what it is told, so that a test which asks for a fault gets that fault."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.fake_running import start as start
from tests.engine.processes import pids_with, wait_until, wait_until_none_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.fake import FakeEngine
    from tests.engine.fake_running import Running


@pytest.mark.parametrize(
    ("modes", "code", "words"),
    [
        ("crash", 1, "bind: address already in use"),
        ("crash,code=3,message=Error: no%2C thanks", 3, "Error: no, thanks"),
        ("crash,after_s=0.1,code=4", 4, "Listening on"),
        ("exit0", 0, ""),
        ("panic,after_s=0.05", 2, "goroutine 1 [running]:"),
        ("signal,number=9", -9, ""),
        ("signal,number=11,after_s=0.05", -11, ""),
    ],
)
def test_it_ends_as_told(start: Callable[[str], Running], modes: str, code: int, words: str) -> None:
    running = start(modes)

    assert running.popen.wait(5) == code
    assert words in running.log.read_text()


def test_sigterm_ends_a_healthy_one_with_0(start: Callable[[str], Running]) -> None:
    running = start("healthy").wait_ready()

    running.popen.terminate()

    assert running.popen.wait(5) == 0


def test_sigterm_is_ignored_when_told(start: Callable[[str], Running]) -> None:
    running = start("ignore_term").wait_ready()

    running.popen.terminate()

    with pytest.raises(subprocess.TimeoutExpired):
        running.popen.wait(0.2)


def test_a_taken_port_is_told_as_ollama_tells_it(start: Callable[[str], Running]) -> None:
    start("healthy").wait_ready()

    second = start("healthy")

    assert second.popen.wait(5) == 1
    assert (
        f"Error: listen tcp 127.0.0.1:{second.port}: bind: address already in use" in second.log.read_text()
    )


def test_lives_follow_each_other(start: Callable[[str], Running], fake_engine: FakeEngine) -> None:
    modes = "crash,code=7|exit0|healthy"

    codes = [start(modes).popen.wait(5), start(modes).popen.wait(5)]
    third = start(modes).wait_ready()

    assert codes == [7, 0]
    assert len(fake_engine.lives()) == 3
    assert fake_engine.lives()[-1] == third.popen.pid


@pytest.mark.parametrize("mode", ["never_ready", "slow_start,after_s=30"])
def test_it_listens_without_answering(start: Callable[[str], Running], mode: str) -> None:
    running = start(mode)
    wait_until(lambda: "Listening" in running.log.read_text(), limit_s=5, what="it listens")

    with pytest.raises(TimeoutError):
        running.ask("/api/version", timeout_s=0.2)


def test_helpers_stay_in_the_group_and_escaped_ones_do_not(
    start: Callable[[str], Running], fake_engine: FakeEngine
) -> None:
    running = start("helpers,count=2;escape,count=1").wait_ready()
    wait_until(lambda: len(fake_engine.pids()) == 4, limit_s=5, what="all four are there")

    groups = [os.getpgid(pid) for pid in fake_engine.pids()]

    assert groups.count(running.popen.pid) == 3
    assert set(pids_with(running.marker)) >= set(fake_engine.pids())


def test_a_storm_forks_on_and_on(start: Callable[[str], Running]) -> None:
    running = start("storm,width=2,life_s=10").wait_ready()
    first = set(pids_with(running.marker))

    wait_until(lambda: set(pids_with(running.marker)) - first, limit_s=5, what="other pids")

    os.killpg(running.popen.pid, signal.SIGKILL)
    running.popen.wait()
    assert wait_until_none_with(running.marker, limit_s=5) == {}


def test_a_flood_floods(start: Callable[[str], Running]) -> None:
    running = start("flood,total_mb=20").wait_ready()

    wait_until(lambda: running.log.stat().st_size >= 20_000_000, limit_s=10, what="20 MB are written")


def test_a_replay_repeats_whole_lines_and_sows_others_among_them(
    start: Callable[[str], Running], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("one\ntwo two\n")
    (tmp_path / "sow").write_text("sown {n} at {mono_ns}\n")
    files = f"file={tmp_path / 'file'},sow={tmp_path / 'sow'},note={tmp_path / 'note'}"
    running = start(f"replay,{files},total_mb=1,sow_mb=0.1,over=the end").wait_ready()
    wait_until((tmp_path / "note").exists, limit_s=10, what="the replay is over")

    lines = running.log.read_text().splitlines()
    replayed = lines[lines.index("one") : lines.index("the end")]
    noted = json.loads((tmp_path / "note").read_text())

    assert {line for line in replayed if not line.startswith(("sown", "time=", "[GIN]"))} == {
        "one",
        "two two",
    }
    sown = [line for line in replayed if line.startswith("sown")]
    assert sown == [f"sown {n} at {at_ns}" for n, at_ns in enumerate(noted["sown_ns"])]
    assert len(sown) == 10  # 1 MB / 0.1 MB
    assert noted["bytes"] >= 1_000_000


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("error,status=503,text=busy", (503, b'{"error": "busy"}')),
        ("html", (500, b"<html><h1>Bad gateway</h1></html>")),
        ("wrong_json", (200, b'[1, "x", null]')),
        ("broken_json", (200, b'{"models": [{"name": "ti')),
        ("empty", (200, b"")),
        ("slowloris,s=0.001", (200, b'{"version": "0.34.4"}')),
    ],
)
def test_an_answer_is_spoiled_while_it_runs(
    start: Callable[[str], Running], fake_engine: FakeEngine, mode: str, outcome: tuple[int, bytes]
) -> None:
    running = start("healthy").wait_ready()

    fake_engine.control(mode)

    answer = running.ask("/api/version")
    assert (answer.status, answer.body) == outcome


@pytest.mark.parametrize("mode", ["close", "close_mid", "garbage", "die"])
def test_a_connection_is_spoiled_while_it_runs(
    start: Callable[[str], Running], fake_engine: FakeEngine, mode: str
) -> None:
    running = start("healthy").wait_ready()

    fake_engine.control(f"{mode},path=/api/version")

    with pytest.raises((http.client.HTTPException, ConnectionError)):
        running.ask("/api/version")


def test_a_fault_ends_after_its_times(start: Callable[[str], Running]) -> None:
    running = start("error,status=502,path=/api/tags,times=2,after=1").wait_ready()

    statuses = [running.ask("/api/tags").status for _ in range(4)]

    assert statuses == [200, 502, 502, 200]


def test_a_frozen_one_thaws(start: Callable[[str], Running], fake_engine: FakeEngine) -> None:
    running = start("healthy").wait_ready()
    fake_engine.control("freeze")
    with pytest.raises(TimeoutError):
        running.ask("*", "OPTIONS", timeout_s=0.2)

    fake_engine.control("")

    assert running.ask("*", "OPTIONS").status == 200


def test_an_order_may_end_it_while_it_runs(start: Callable[[str], Running], fake_engine: FakeEngine) -> None:
    running = start("healthy").wait_ready()
    begun = time.monotonic()

    fake_engine.control("crash,code=5")

    assert running.popen.wait(5) == 5
    assert time.monotonic() - begun < 1


def test_it_tells_what_it_saw(start: Callable[[str], Running], fake_engine: FakeEngine) -> None:
    running = start("healthy").wait_ready()

    running.ask("/api/tags?x=1")

    assert fake_engine.dump()["environ"]["FAKE_OLLAMA"] == "healthy"
    assert fake_engine.dump()["pid"] == running.popen.pid
    assert [entry["target"] for entry in fake_engine.requests()][-1] == "/api/tags?x=1"
