"""The daemon as a service manager sees it: a real process, a real datagram socket, a fake engine."""

from __future__ import annotations

import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine


class Manager:
    """What a service manager hears, with the instant of each word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.words: list[tuple[float, str]] = []

    def listen(self, *, for_s: float) -> list[str]:
        """Everything that was said up to so long from now."""
        end = time.monotonic() + for_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                said = self._socket.recv(65536).decode()
            except TimeoutError:
                break
            self.words += [(time.monotonic(), word) for word in said.split("\n")]
        return [word for _, word in self.words]

    def wait_for(self, start: str, *, limit_s: float = 15) -> str:
        """The first word that begins so."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            found = [word for word in self.listen(for_s=0.02) if word.startswith(start)]
            if found:
                return found[0]
        pytest.fail(f"{start} was not said within {limit_s} s: {self.words}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def env(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(manager.path), **more}


def test_ready_is_said_when_the_api_and_the_engine_answer(daemon: DaemonFactory, manager: Manager) -> None:
    started = daemon(env=env(manager))
    manager.wait_for("READY=1")
    assert started.get("/readyz").status == 200


def test_ready_waits_for_a_slow_engine_and_asks_for_more_time(
    daemon: DaemonFactory, manager: Manager
) -> None:
    daemon("slow_start,after_s=2", env=env(manager, WATCHDOG_USEC="900000"))
    manager.wait_for("READY=1")
    order = [word.partition("=")[0] for _, word in manager.words]
    assert order.index("EXTEND_TIMEOUT_USEC") < order.index("READY")


def test_a_failed_first_start_is_ready_with_its_reason(daemon: DaemonFactory, manager: Manager) -> None:
    daemon("crash,code=3,message=out of luck", env=env(manager))
    manager.wait_for("READY=1")
    assert "out of luck" in [word for _, word in manager.words if word.startswith("STATUS=")][-1]


def test_ready_comes_with_the_first_start_that_timed_out_and_not_with_a_later_one(
    daemon: DaemonFactory, manager: Manager
) -> None:
    started = daemon("never_ready", env=env(manager, OLLAMA_STARTUP_TIMEOUT="2"))
    manager.wait_for("READY=1")
    assert started.process()["generation"] <= 2
    assert "no answer within 2 s" in [word for _, word in manager.words if word.startswith("STATUS=")][-1]


def test_signs_of_life_come_at_less_than_half_the_limit(daemon: DaemonFactory, manager: Manager) -> None:
    daemon(env=env(manager, WATCHDOG_USEC="2000000"))
    manager.wait_for("READY=1")
    manager.listen(for_s=5)
    fed = [at for at, word in manager.words if word == "WATCHDOG=1"]
    assert max(later - earlier for earlier, later in pairwise(fed)) < 1.5


def test_signs_of_life_go_on_while_the_engine_is_frozen(daemon: DaemonFactory, manager: Manager) -> None:
    started = daemon("freeze", env=env(manager, WATCHDOG_USEC="600000", OLLAMA_STARTUP_TIMEOUT="60"))
    started.wait_live()
    manager.listen(for_s=2)
    assert [word for _, word in manager.words].count("WATCHDOG=1") >= 5


def test_the_end_is_told_before_the_engine_is_asked_to_end(daemon: DaemonFactory, manager: Manager) -> None:
    started = daemon("slow_stop,after_s=1", env=env(manager))
    manager.wait_for("READY=1")
    pid = engine_pid(started)
    started.signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert is_alive(pid)


def test_more_time_to_stop_is_asked_for_than_the_engine_has(daemon: DaemonFactory, manager: Manager) -> None:
    started = daemon(env=env(manager, ARASUL_STOP_TIMEOUT="120"))
    manager.wait_for("READY=1")
    started.signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    asked = [word for _, word in manager.words if word.startswith("EXTEND_TIMEOUT_USEC=")][-1]
    assert int(asked.partition("=")[2]) > 121e6


def test_the_engine_cannot_speak_to_the_manager(daemon: DaemonFactory, manager: Manager) -> None:
    started = daemon(env=env(manager, WATCHDOG_USEC="2000000", WATCHDOG_PID="1"))
    started.wait_ready()
    with open(f"/proc/{engine_pid(started)}/environ", "rb") as file:
        variables = {entry.partition(b"=")[0] for entry in file.read().split(b"\0")}
    assert not variables & {b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID"}


def test_a_manager_that_does_not_read_does_not_hold_the_daemon(
    daemon: DaemonFactory, manager: Manager
) -> None:
    started = daemon(env=env(manager, WATCHDOG_USEC="3000")).wait_ready()
    time.sleep(2)
    assert started.get("/livez").took_s < 1


def test_the_engine_is_offered_to_the_out_of_memory_killer_and_the_daemon_is_not(
    daemon: DaemonFactory,
) -> None:
    started = daemon().wait_ready()
    scores = [oom_score_adj(who) for who in (started.pid, engine_pid(started))]
    assert scores == [oom_score_adj("self"), 500]


def test_below_a_wrapper_script_the_engine_itself_is_offered_too(
    daemon: DaemonFactory, fake_engine: FakeEngine
) -> None:
    started = daemon(env={"ARASUL_OLLAMA": str(fake_engine.behind_a_script())}).wait_ready()
    engine = fake_engine.dump()["pid"]
    assert (engine != engine_pid(started), oom_score_adj(engine)) == (True, 500)


def oom_score_adj(who: int | str) -> int:
    with open(f"/proc/{who}/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def test_a_watchdogs_abort_shows_where_the_daemon_was(daemon: DaemonFactory) -> None:
    started = daemon().wait_ready()
    # as one that hangs does: the stacks of threads that run meanwhile are read without a lock
    wait_until(lambda: stands_still(started.pid), limit_s=10, what="no thread runs")
    started.signal(signal.SIGABRT)
    assert started.wait_exit() == -signal.SIGABRT
    wait_until(lambda: "most recent call first" in started.log_text(), limit_s=5, what="the stacks")


def stands_still(pid: int) -> bool:
    """True when none of its threads has run for a while."""
    try:
        before = run_ns(pid)
        time.sleep(0.05)
        return run_ns(pid) == before
    except FileNotFoundError:  # one has ended just now
        return False


def run_ns(pid: int) -> list[str]:
    """What each thread has run, as the scheduler counts it."""
    return [(task / "schedstat").read_text() for task in sorted(Path(f"/proc/{pid}/task").iterdir())]


def engine_pid(started: Daemon) -> int:
    return int(started.process()["pid"])
