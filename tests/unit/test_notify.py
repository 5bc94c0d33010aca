"""What the service manager is told, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision.notify import Notifier, extend_timeout, status, watchdog_s
from arasul_supervisor.supervision.service_notices import ServiceNotices, is_start_decided, sentence_of
from arasul_supervisor.supervision.snapshot import ExitReport, Failure, Snapshot, State, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arasul_supervisor.supervision.engine import Engine

RUNNING = Snapshot(state=State.RUNNING, wanted=Wanted.UP, generation=1, engine_version="0.34.4")
EXIT = ExitReport(1, 1, None, "exited with code 1", at=0.0, ran_s=0.1)


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.senders: list[Notifier] = []

    def close(self) -> None:
        for sender in self.senders:
            sender.close()
        self.socket.close()

    def heard(self) -> list[str]:
        """Each datagram that has come so far."""
        said = []
        while True:
            try:
                said.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return said


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


class StubEngine:
    """An owner that takes its turns, or is stuck."""

    def __init__(self, snapshot: Snapshot, *, is_stuck: bool = False, is_over: bool = False) -> None:
        self.snapshot, self.is_stuck, self.is_over = snapshot, is_stuck, is_over

    async def take_turn(self) -> None:
        if self.is_over:
            raise EngineDown("over")
        if self.is_stuck:
            await asyncio.Event().wait()


def notices(manager: Manager, engine: StubEngine, *, limit_s: float | None = 0.03) -> ServiceNotices:
    owner: Engine = engine  # type: ignore[assignment]  # all that is asked of it
    manager.senders.append(Notifier(manager.address))
    return ServiceNotices(manager.senders[-1], owner, watchdog_s=limit_s)


def test_assignments_go_in_one_datagram(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    assert notifier.send("READY=1", "STATUS=It answers.")
    notifier.close()
    assert manager.heard() == ["READY=1\nSTATUS=It answers."]


def test_an_abstract_address_is_understood() -> None:
    listening = Manager(f"@arasul-test-{os.getpid()}")
    listening.senders.append(Notifier(listening.address))
    listening.senders[0].send("READY=1")
    heard = listening.heard()
    listening.close()
    assert heard == ["READY=1"]


@pytest.mark.parametrize("address", ["", "/", "@", "vsock:2:1234", "relative/path"])
def test_without_an_address_that_is_known_nothing_is_sent(address: str) -> None:
    notifier = Notifier(address)
    assert not notifier.is_listened_to
    assert not notifier.send("READY=1")


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    assert not notifier.send("READY=1")
    notifier.close()


def test_a_manager_that_does_not_read_is_no_error_and_does_not_block(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    taken = [notifier.send("WATCHDOG=1") for _ in range(5000)]
    notifier.close()
    assert taken[0]
    assert not taken[-1]


def test_a_status_is_one_line_whatever_it_says() -> None:
    assert status("Port 1 is held.\nREADY=1\r\n by pid 3") == "STATUS=Port 1 is held. READY=1 by pid 3"


def test_more_time_is_asked_for_in_microseconds() -> None:
    assert extend_timeout(13.5) == "EXTEND_TIMEOUT_USEC=13500000"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        pytest.param({"WATCHDOG_USEC": "30000000"}, 30.0, id="of nobody in particular"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="of another process"),
        pytest.param({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0, id="of ours"),
        pytest.param({}, None, id="none"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no number"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="zero"),
    ],
)
def test_the_watchdog_limit_is_taken_when_it_is_meant_for_us(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_s(environ) == seconds


async def test_signs_of_life_come_while_the_owner_takes_its_turns(manager: Manager) -> None:
    task = asyncio.create_task(notices(manager, StubEngine(RUNNING)).run())
    await until_heard(manager, "WATCHDOG=1", times=3)
    task.cancel()


async def test_no_sign_of_life_comes_while_the_owner_is_stuck(manager: Manager) -> None:
    task = asyncio.create_task(notices(manager, StubEngine(RUNNING, is_stuck=True)).run())
    await asyncio.sleep(0.1)
    assert manager.heard() == []
    task.cancel()


async def test_the_signs_of_life_end_with_the_owner(manager: Manager) -> None:
    await notices(manager, StubEngine(RUNNING, is_over=True)).run()
    assert manager.heard() == []


async def test_a_slow_start_is_given_more_time_until_it_is_decided(manager: Manager) -> None:
    engine = StubEngine(Snapshot(state=State.STARTING, wanted=Wanted.UP, generation=1))
    told = notices(manager, engine, limit_s=None)
    told.served()
    task = asyncio.create_task(told.run())
    await until_heard(manager, "EXTEND_TIMEOUT_USEC=15000000", times=1)
    task.cancel()


async def until_heard(manager: Manager, what: str, *, times: int) -> None:
    end = SystemClock().mono() + 5
    heard: list[str] = []
    while heard.count(what) < times:
        assert SystemClock().mono() < end, f"{what} was not heard {times} times: {heard}"
        heard += manager.heard()
        await asyncio.sleep(0.01)


def test_ready_waits_for_the_api_as_well_as_for_the_engine(manager: Manager) -> None:
    engine = StubEngine(RUNNING)
    told = notices(manager, engine)
    told.follow(RUNNING)
    assert manager.heard() == ["STATUS=Ollama 0.34.4 answers."]
    told.served()
    assert manager.heard() == ["READY=1"]


def test_ready_is_said_once(manager: Manager) -> None:
    told = notices(manager, StubEngine(RUNNING))
    told.served()
    told.follow(RUNNING)
    assert sum(said.count("READY=1") for said in manager.heard()) == 1


async def test_a_ready_that_was_not_taken_is_said_again(manager: Manager) -> None:
    told = notices(manager, StubEngine(RUNNING))
    while manager.senders[-1].send("X=1"):
        continue
    told.served()
    manager.heard()
    task = asyncio.create_task(told.run())
    await until_heard(manager, "STATUS=Ollama 0.34.4 answers.\nREADY=1", times=1)
    task.cancel()


def test_a_status_that_is_no_utf_8_is_sent_all_the_same(manager: Manager) -> None:
    told = notices(manager, StubEngine(RUNNING))
    told.follow(replace(RUNNING, engine_version="\udcff"))
    assert manager.heard() == ["STATUS=Ollama ? answers."]


def test_the_end_is_told_with_the_time_it_may_take_and_nothing_after_it(manager: Manager) -> None:
    told = notices(manager, StubEngine(RUNNING))
    told.stopping(8.0)
    told.follow(RUNNING)
    assert manager.heard() == ["STOPPING=1\nSTATUS=Ending, and Ollama with it.\nEXTEND_TIMEOUT_USEC=13000000"]


@pytest.mark.parametrize(
    ("seen", "is_decided"),
    [
        pytest.param(Snapshot(wanted=Wanted.UP), False, id="before the first spawn"),
        pytest.param(Snapshot(state=State.STARTING, wanted=Wanted.UP, generation=1), False, id="starting"),
        pytest.param(RUNNING, True, id="it answered"),
        pytest.param(
            Snapshot(state=State.BACKOFF, wanted=Wanted.UP, generation=1),
            False,
            id="its tree is being cleared",
        ),
        pytest.param(
            Snapshot(state=State.BACKOFF, wanted=Wanted.UP, generation=1, last_exit=EXIT),
            True,
            id="it failed",
        ),
        pytest.param(
            Snapshot(state=State.STARTING, wanted=Wanted.UP, generation=2, last_exit=EXIT),
            True,
            id="it failed and is tried again",
        ),
        pytest.param(Snapshot(state=State.FATAL, wanted=Wanted.UP), True, id="it cannot be started"),
        pytest.param(Snapshot(state=State.STOPPED, wanted=Wanted.DOWN), True, id="an operator stopped it"),
    ],
)
def test_the_start_is_decided_by_an_answer_a_failure_or_an_operator(seen: Snapshot, is_decided: bool) -> None:
    assert is_start_decided(seen) is is_decided


def test_the_status_of_a_failed_start_is_its_reason() -> None:
    failure = Failure("port_in_use", "Port 11434 is held by pid 7.")
    seen = Snapshot(state=State.BACKOFF, wanted=Wanted.UP, failure=failure)
    assert sentence_of(seen) == "Port 11434 is held by pid 7."
