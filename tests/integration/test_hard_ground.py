"""The daemon where the ground is bad: no stdout, no descriptors, no disk, and a word to end before it stands."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine


@pytest.fixture
def as_model(daemon: DaemonFactory) -> Daemon:
    """A daemon's environment and folder; nothing runs in it yet."""
    return daemon.prepare()


def run_by_shell(model: Daemon, redirection: str) -> subprocess.Popen[bytes]:
    """The daemon started by a shell that closes descriptors."""
    command = f"exec {sys.executable} -m arasul_supervisor run {redirection}"
    return subprocess.Popen(["sh", "-c", command], env=model.environment, cwd=model.folder)


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_harm_nothing(as_model: Daemon, redirection: str) -> None:
    started = run_by_shell(as_model, redirection)
    wait_until(lambda: _is_ready(as_model), limit_s=15, what="/readyz")
    assert int((as_model.state_dir / "lock").read_text()) == started.pid
    started.send_signal(signal.SIGTERM)
    assert started.wait(10) == 0


def test_what_the_daemon_found_open_is_not_open_in_the_engine(as_model: Daemon) -> None:
    started = run_by_shell(as_model, "7</dev/zero")
    wait_until(lambda: _is_ready(as_model), limit_s=15, what="/readyz")
    engine = as_model.process()["pid"]
    opened = [os.readlink(f"/proc/{engine}/fd/{fd}") for fd in os.listdir(f"/proc/{engine}/fd")]
    started.send_signal(signal.SIGTERM)
    assert started.wait(10) == 0
    assert "/dev/zero" not in opened


def _is_ready(daemon: Daemon) -> bool:
    try:
        return daemon.get("/readyz", timeout_s=2).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("after_s", [0.06, 0.1, 0.14, 0.2, 0.3])
def test_a_word_to_end_during_the_launch_is_obeyed(daemon: DaemonFactory, after_s: float) -> None:
    starting = daemon()
    wait_until(lambda: _takes_sigterm(starting.pid), limit_s=10, what="a handler for SIGTERM")
    time.sleep(after_s)  # not in hope: any instant of the launch will do, and several are tried
    assert starting.stop() == 0
    assert starting.survivors() == {}


def _takes_sigterm(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB without a free block."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("NOT TESTED: a full disk, for that needs root and the program mount")
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    subprocess.run(["dd", "if=/dev/zero", f"of={folder}/filler"], check=False, capture_output=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_state_folder_on_a_full_disk_is_told_in_a_sentence_with_exit_71(
    daemon: DaemonFactory, full_disk: Path
) -> None:
    refused = daemon(env={"ARASUL_STATE_DIR": str(full_disk / "state")})
    assert refused.wait_exit() == 71
    assert "No space left on device" in refused.log_text()
    assert "Traceback" not in refused.log_text()


def test_a_removed_lock_file_lets_no_second_daemon_in(daemon: DaemonFactory) -> None:
    first = daemon().wait_ready()
    pid = first.process()["pid"]
    (first.state_dir / "lock").unlink()
    second = daemon(env={"ARASUL_STATE_DIR": str(first.state_dir)})
    assert second.wait_exit() == 71
    assert is_alive(pid)


def test_more_connections_than_descriptors_do_not_keep_the_engine_from_coming_back(as_model: Daemon) -> None:
    limited = ["prlimit", "--nofile=200:200", sys.executable, "-m", "arasul_supervisor", "run"]
    environment = {**as_model.environment, "ARASUL_STABLE_SECONDS": "0"}
    with (as_model.folder / "daemon.out").open("ab") as out:
        started = subprocess.Popen(limited, env=environment, cwd=as_model.folder, stdout=out, stderr=out)
    wait_until(lambda: _is_ready(as_model), limit_s=15, what="/readyz")
    old = as_model.process()["pid"]
    idle = [socket.create_connection(("127.0.0.1", as_model.port)) for _ in range(250)]
    os.kill(old, signal.SIGKILL)
    for connection in idle:
        connection.close()
    wait_until(
        lambda: _is_ready(as_model) and as_model.process()["pid"] != old, limit_s=15, what="the next engine"
    )
    started.send_signal(signal.SIGTERM)
    assert started.wait(10) == 0


def test_the_daemon_takes_all_descriptors_that_it_may_have(daemon: DaemonFactory) -> None:
    running = daemon().wait_ready()
    soft, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)


def test_a_stop_that_a_start_overtakes_is_answered_when_it_has_settled(daemon: DaemonFactory) -> None:
    running = daemon("slow_stop,after_s=1").wait_ready()
    answers: list[int] = []
    stopping = threading.Thread(target=lambda: answers.append(running.post("/api/process/stop").status))
    stopping.start()
    running.wait_state("stopping")
    assert running.post("/api/process/start").status == 200
    stopping.join(4)
    assert answers != []


def test_the_lines_of_a_model_are_not_shown_in_the_report_of_a_death(daemon: DaemonFactory) -> None:
    lines = "srv  common_chat_peg_parse: unparsed peg-native output: MY SECRET"
    running = daemon(f"say,text={lines}", env={"ARASUL_STABLE_SECONDS": "0"}).wait_ready()
    os.kill(running.process()["pid"], signal.SIGKILL)
    running.wait_for(
        lambda: bool((running.process()["last_exit"] or {}).get("log_tail")), what="the last lines"
    )
    assert "MY SECRET" not in running.get("/api/process").body.decode()


def test_an_engine_below_a_wrapper_script_gets_ready(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon(env={"ARASUL_OLLAMA": str(fake_engine.behind_a_script())}).wait_ready()
    assert running.stop() == 0
    assert running.survivors() == {}


def test_the_end_of_the_daemon_ends_a_pull_stream_with_an_error_that_says_when_it_goes_on(
    daemon: DaemonFactory,
) -> None:
    started = daemon("pull,lines=1000,line_s=0.05").wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=15)
    connection.request("POST", "/api/models/pull", body=b'{"model": "tiny"}')
    stream = connection.getresponse()
    while b"pulling" not in stream.readline():
        continue
    started.signal(signal.SIGTERM)
    last = json.loads(stream.read().splitlines()[-1])
    connection.close()
    assert last["code"] == "engine_down"
    assert last["error"] == "The daemon is stopping; this pull goes on at its next start."
