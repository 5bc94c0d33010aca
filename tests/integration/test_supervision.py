"""Promises 1, 2, 3 and 5 over real processes: the daemon as its user runs it, the fake engine below it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.processes import is_alive, pids_with, wait_until

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine

NO_PAUSE = {"ARASUL_STABLE_SECONDS": "0"}
QUICK = {"ARASUL_BACKOFF_BASE": "0.02", "ARASUL_BACKOFF_MAX": "0.1", "OLLAMA_STARTUP_TIMEOUT": "1"}


def kill_engine(daemon: Daemon, number: int = signal.SIGKILL) -> dict[str, Any]:
    """Send the engine a signal that ends it, and wait for the next one to run."""
    before = daemon.process()
    os.kill(before["pid"], number)
    daemon.wait_for(
        lambda: (
            daemon.process()["generation"] > before["generation"] and daemon.process()["state"] == "running"
        ),
        what="a next generation that runs",
    )
    return daemon.process()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_an_engine_that_dies_unasked_is_started_again(daemon: DaemonFactory, number: int) -> None:
    running = daemon(env=NO_PAUSE).wait_ready()
    process = kill_engine(running, number)
    assert process["restarts"] == 1
    assert process["generation"] == 2


def test_the_report_of_a_death_names_the_signal_and_the_last_lines(daemon: DaemonFactory) -> None:
    running = daemon("say,text=my last words", env=NO_PAUSE).wait_ready()
    kill_engine(running)
    wait_until(lambda: bool(running.process()["last_exit"]["log_tail"]), limit_s=5, what="the last lines")
    last_exit = running.process()["last_exit"]
    assert last_exit["signal"] == signal.SIGKILL
    assert last_exit["code"] is None
    assert "SIGKILL" in last_exit["reason"]
    assert any("my last words" in line for line in last_exit["log_tail"])


def test_an_exit_with_code_0_that_nobody_asked_for_is_a_crash_too(daemon: DaemonFactory) -> None:
    running = daemon("exit0,after_s=0.3|healthy", env=NO_PAUSE)
    running.wait_for(lambda: running.process()["restarts"] == 1, what="one restart")
    assert running.process()["last_exit"]["code"] == 0
    assert "without being asked" in running.process()["last_exit"]["reason"]


@pytest.mark.parametrize(
    "modes",
    [
        pytest.param("helpers,count=3", id="helpers in its group"),
        pytest.param("helpers,count=3;ignore_term", id="helpers, and a leader that ignores SIGTERM"),
        pytest.param("escape,count=3", id="helpers that left the session"),
        pytest.param("escape,count=2,deaf=1;helpers,count=2,deaf=1", id="deaf helpers inside and outside"),
        pytest.param("storm,width=4", id="a storm of forks in the group"),
    ],
)
def test_nothing_of_the_old_tree_is_alive_when_the_next_one_runs(
    daemon: DaemonFactory, fake_engine: FakeEngine, modes: str
) -> None:
    running = daemon(f"{modes}|healthy", env=NO_PAUSE).wait_ready()
    wait_until(lambda: len(fake_engine.pids()) > 1 or "storm" in modes, limit_s=5, what="the helpers")
    old = pids_with(f"ARASUL_MARKER={_installation(running)}").keys() - {running.pid}
    kill_engine(running)
    assert [
        pid for pid in {*old, *fake_engine.pids()[:-1]} if is_alive(pid) and pid != running.process()["pid"]
    ] == []


def _installation(daemon: Daemon) -> str:
    return (daemon.state_dir / "installation-id").read_text().strip()


def test_fifty_deaths_in_a_row_are_fifty_restarts_and_leave_nothing(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    running = daemon("helpers,count=1;escape,count=1", env=NO_PAUSE).wait_ready()
    for _ in range(50):
        kill_engine(running)
    assert running.process()["restarts"] == 50
    living = running.process()["pid"]
    mine = pids_with(f"ARASUL_MARKER={_installation(running)}")
    assert living in mine
    assert len(mine) <= 3  # the engine of now and its two helpers


def test_a_stop_is_a_stop_until_a_person_starts_it_again(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    stopped = running.post("/api/process/stop")
    assert stopped.status == 200
    assert stopped.json()["state"] == "stopped"
    assert stopped.json()["wanted"] == "down"
    assert running.post("/api/process/stop").status == 200
    assert running.get("/readyz").status == 503
    started = running.post("/api/process/start")
    assert started.json()["state"] == "running"
    assert started.json()["restarts"] == 0


def test_a_restart_on_command_is_a_new_generation_and_no_crash(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    old = running.process()
    answer = running.post("/api/process/restart").json()
    assert answer["state"] == "running"
    assert answer["generation"] == old["generation"] + 1
    assert answer["pid"] != old["pid"]
    assert answer["short_lives"] == 0
    assert "asked to restart" in answer["last_exit"]["reason"]


def test_an_engine_that_ignores_sigterm_is_killed_after_the_stop_time_out(daemon: DaemonFactory) -> None:
    running = daemon("ignore_term;helpers,count=2,deaf=1", env={"ARASUL_STOP_TIMEOUT": "0.5"}).wait_ready()
    answer = running.post("/api/process/stop")
    assert answer.json()["state"] == "stopped"
    assert 0.5 <= answer.took_s < 2.5
    assert answer.json()["last_exit"]["signal"] == signal.SIGKILL
    assert "after SIGTERM" in answer.json()["last_exit"]["reason"]


def test_a_frozen_engine_takes_its_sigterm(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    os.kill(running.process()["pid"], signal.SIGSTOP)
    answer = running.post("/api/process/stop")
    assert answer.json()["state"] == "stopped"
    assert answer.json()["last_exit"]["signal"] != signal.SIGKILL


def test_an_engine_that_never_gets_ready_is_ended_and_tried_again_with_growing_pauses(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    env = {"OLLAMA_STARTUP_TIMEOUT": "0.4", "ARASUL_BACKOFF_BASE": "0.4", "ARASUL_START_RETRIES": "9"}
    running = daemon("never_ready", env=env).wait_live()
    running.wait_for(lambda: running.process()["short_lives"] >= 3, what="three short lives")
    lives = fake_engine.lives()
    assert [pid for pid in lives[:-1] if is_alive(pid)] == []
    process = running.process()
    assert "no answer within 0.4 s" in process["last_exit"]["reason"]
    health = running.get("/health")
    assert health.status == 503
    assert "0.4 s" in json.dumps(health.json())


def test_a_spent_budget_with_retry_goes_on_at_the_slowest_pace(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    env = {**QUICK, "ARASUL_START_RETRIES": "3", "ARASUL_BACKOFF_MAX": "0.6"}
    running = daemon("crash,message=boom", env=env).wait_live()
    running.wait_for(lambda: running.process()["gave_up"], what="giving up")
    assert running.process()["state"] in ("backoff", "starting")
    n_lives = len(fake_engine.lives())
    running.wait_for(lambda: len(fake_engine.lives()) > n_lives, what="another try all the same")
    health = running.get("/health")
    assert health.status == 503
    assert "boom" in json.dumps(health.json())


def test_a_spent_budget_with_hold_stays_down_until_told(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    env = {**QUICK, "ARASUL_START_RETRIES": "3", "ARASUL_ON_GIVE_UP": "hold"}
    running = daemon("crash,message=boom|crash,message=boom|crash,message=boom|healthy", env=env)
    process = running.wait_state("fatal")
    assert process["gave_up"] is True
    assert len(fake_engine.lives()) == 3
    assert running.post("/api/process/start").json()["state"] == "running"


def test_a_spent_budget_with_exit_leaves_with_code_70(daemon: DaemonFactory) -> None:
    env = {**QUICK, "ARASUL_START_RETRIES": "3", "ARASUL_ON_GIVE_UP": "exit"}
    running = daemon("crash,message=boom", env=env)
    assert running.wait_exit() == 70
    assert running.survivors() == {}


def test_a_port_that_is_taken_is_told_with_who_holds_it(daemon: DaemonFactory, free_port: int) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", free_port))
        holder.listen()
        running = daemon(
            env={"OLLAMA_HOST": f"127.0.0.1:{free_port}", "ARASUL_START_RETRIES": "99"}
        ).wait_live()
        running.wait_for(
            lambda: str(os.getpid()) in running.get("/health").json()["reason"], what="the holder's pid"
        )
        health = running.get("/health")
    assert health.status == 503
    assert str(free_port) in health.json()["reason"]
    assert len(running.process()["last_exit"]["log_tail"]) > 0


def test_a_known_cause_is_not_tried_in_a_storm(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon("crash", env={"ARASUL_BACKOFF_BASE": "5"}).wait_live()
    process = running.wait_state("backoff")
    assert process["next_attempt_at"] is not None
    assert len(fake_engine.lives()) == 1


def test_sigterm_ends_all_with_code_0(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon("helpers,count=2;escape,count=2").wait_ready()
    assert running.stop() == 0
    assert running.survivors() == {}
    assert [pid for pid in fake_engine.pids() if is_alive(pid)] == []


def test_sigterm_right_after_the_launch_ends_all_with_code_0(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    running = daemon("slow_start,after_s=5")
    wait_until(lambda: bool(fake_engine.lives()), limit_s=10, what="a spawned engine")
    assert running.stop() == 0
    assert running.survivors() == {}


def test_a_second_sigterm_ends_a_stubborn_engine_at_once(daemon: DaemonFactory) -> None:
    running = daemon("ignore_term", env={"ARASUL_STOP_TIMEOUT": "60"}).wait_ready()
    running.signal(signal.SIGTERM)
    running.wait_for(lambda: "asked_to_end" in running.log_text(), what="the first word")
    running.signal(signal.SIGTERM)
    assert running.wait_exit(limit_s=5) == 0


def test_the_daemon_ends_within_its_stop_time_out_and_two_seconds(daemon: DaemonFactory) -> None:
    running = daemon("ignore_term", env={"ARASUL_STOP_TIMEOUT": "1"}).wait_ready()
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 3


def test_sigkill_of_the_daemon_leaves_nothing_alive(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon("helpers,count=2,deaf=1;escape,count=2,deaf=1;ignore_term").wait_ready()
    running.signal(signal.SIGKILL)
    running.wait_exit()
    assert running.survivors() == {}
    assert [pid for pid in fake_engine.pids() if is_alive(pid)] == []


@pytest.mark.parametrize("turn", range(5))
def test_sigkill_of_the_daemon_right_after_a_spawn_leaves_nothing_alive(
    daemon: DaemonFactory, fake_engine: FakeEngine, turn: int
) -> None:
    running = daemon("slow_start,after_s=3")
    wait_until(
        lambda: (fake_engine.folder / "lives").exists(), limit_s=10, what="the first sign of the engine"
    )
    running.signal(signal.SIGKILL)
    running.wait_exit()
    assert running.survivors() == {}


def test_a_new_start_ends_what_a_killed_daemon_and_guardian_left(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    running = daemon("escape,count=1,deaf=1;ignore_term", env={"ARASUL_STOP_TIMEOUT": "1"}).wait_ready()
    left = fake_engine.pids()
    guardian = _guardian_of(running)
    os.kill(running.pid, signal.SIGSTOP)  # it must not replace its guardian
    os.kill(guardian, signal.SIGKILL)
    running.signal(signal.SIGKILL)
    running.wait_exit()
    assert [pid for pid in left if is_alive(pid)] != []
    running.start().wait_ready()
    assert [pid for pid in left if is_alive(pid)] == []
    assert "strays_ended" in running.log_text()


def test_a_guardian_that_dies_is_replaced(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon().wait_ready()
    first = _guardian_of(running)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: _guardian_of(running) not in (0, first), limit_s=5, what="a new guardian")
    running.signal(signal.SIGKILL)
    running.wait_exit()
    assert running.survivors() == {}
    assert [pid for pid in fake_engine.pids() if is_alive(pid)] == []


def _guardian_of(daemon: Daemon) -> int:
    """Pid of the waiting shell below the daemon; 0 when there is none just now."""
    with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children", encoding="ascii") as file:
        children = [int(pid) for pid in file.read().split()]
    for pid in children:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().startswith(b"/bin/sh\0-c\0trap"):
                return pid
    return 0


def test_a_second_daemon_over_the_same_state_refuses_and_touches_nothing(daemon: DaemonFactory) -> None:
    first = daemon().wait_ready()
    pid = first.process()["pid"]
    second = daemon(
        env={"ARASUL_STATE_DIR": str(first.state_dir), "OLLAMA_HOST": first.environment["OLLAMA_HOST"]}
    )
    assert second.wait_exit() == 71
    assert f"pid {first.pid}" in second.log_text()
    assert first.process()["pid"] == pid


def test_a_second_daemon_on_the_same_port_refuses_and_touches_nothing(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    first = daemon().wait_ready()
    second = daemon(env={"ARASUL_PORT": str(first.port)})
    assert second.wait_exit() == 71
    assert f"pid {first.pid}" in second.log_text()
    assert len(fake_engine.lives()) == 1
    assert first.get("/readyz").status == 200


def test_no_engine_on_the_box_is_told_with_exit_71(daemon: DaemonFactory) -> None:
    refused = daemon(env={"ARASUL_OLLAMA": None, "PATH": "/nonexistent", "PYTHONPATH": _package_alone()})
    assert refused.wait_exit() == 71
    assert "ARASUL_OLLAMA" in refused.log_text()


def _package_alone() -> str:
    """The package by a path beside which no engine was installed."""
    import shutil
    import tempfile

    from tests.engine.daemon import REPOSITORY

    folder = tempfile.mkdtemp(prefix="package-alone-", dir=os.environ.get("PYTEST_TMP"))
    shutil.copytree(REPOSITORY / "arasul_supervisor", f"{folder}/arasul_supervisor")
    return folder


def test_wrong_settings_are_all_told_at_once_with_exit_2(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    refused = daemon(
        env={"LLM_CONTEXT_LENGTH": "many", "ARASUL_PORT": "99999", "OLLAMA_GPU_MEMORY_FRACTION": "2"}
    )
    assert refused.wait_exit() == 2
    for wrong in ("LLM_CONTEXT_LENGTH", "ARASUL_PORT", "OLLAMA_GPU_MEMORY_FRACTION"):
        assert wrong in refused.log_text()
    assert fake_engine.lives() == []


def test_a_frozen_engine_shows_in_health_and_a_thawed_one_too(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    pid = running.process()["pid"]
    os.kill(pid, signal.SIGSTOP)
    running.wait_for(lambda: running.get("/health").status == 503, what="unhealthy", limit_s=5)
    assert running.get("/health").json()["status"] == "unhealthy"
    os.kill(pid, signal.SIGCONT)
    running.wait_for(lambda: running.get("/health").status == 200, what="healthy again", limit_s=5)
    assert running.process()["restarts"] == 0


def test_an_engine_that_stops_answering_is_called_silent_after_three_missed_beats(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    running = daemon().wait_ready()
    fake_engine.control("freeze")
    running.wait_for(lambda: running.get("/health").status == 503, what="unhealthy", limit_s=8)
    assert running.process()["state"] == "running"  # promise 5: silence alone restarts nothing


def test_another_engine_on_the_port_is_not_taken_for_ours(daemon: DaemonFactory) -> None:
    first = daemon().wait_ready()
    second = daemon("never_binds", env={"OLLAMA_HOST": first.environment["OLLAMA_HOST"], **QUICK}).wait_live()
    second.wait_for(lambda: second.process()["short_lives"] >= 1, what="a failed start")
    assert second.process()["ready_at"] is None
    assert second.get("/readyz").status == 503


def test_sigusr1_dumps_the_state_to_the_log(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    running.signal(signal.SIGUSR1)
    running.wait_for(lambda: "state_dump" in running.log_text(), what="the dump")
    assert running.get("/readyz").status == 200


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP])
def test_signals_without_a_meaning_of_their_own_end_nothing(daemon: DaemonFactory, number: int) -> None:
    running = daemon().wait_ready()
    running.signal(number)
    assert running.get("/readyz").status == 200
    assert running.process()["generation"] == 1
