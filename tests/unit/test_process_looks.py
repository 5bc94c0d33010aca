"""Guards that a look at processes tells what they do, that runners and orphans are found, and no other is signalled."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.supervision import process_reading
from arasul_supervisor.supervision.ports import connections_to
from arasul_supervisor.supervision.process_reading import RunnerReader, look_at_process
from arasul_supervisor.supervision.process_signals import Ends, continue_processes, end_processes
from arasul_supervisor.supervision.strays import MARKER_VARIABLE, carries
from tests.engine.processes import is_alive, pick_free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arasul_supervisor.supervision.process_looks import Identity, ProcessLook, RunnerProcess

SLEEP = "import time; print(flush=True); time.sleep(60)"
SPIN = "print(flush=True)\nwhile True: pass"
SPIN_IN_A_THREAD = (
    "import threading, time\ndef spin():\n  while True: pass\n"
    "threading.Thread(target=spin, daemon=True).start(); print(flush=True); time.sleep(60)"
)
MOVE_WHEN_TOLD = (
    "import sys, time; print(flush=True); sys.stdin.read(1)\n"
    "open('/dev/null', 'wb', 0).write(bytes(50_000)); time.sleep(60)"
)
FORK = "import os, time; os.fork(); print(flush=True); time.sleep(60)"
START_THE_REST = "import subprocess, sys; subprocess.run([sys.executable, '-Sc', sys.argv[1], *sys.argv[2:]])"
BECOME_A_RUNNER = (
    "import os, sys; print(flush=True); sys.stdin.read(1)\n"
    "os.execv('/bin/sh', ['sh', '-c', 'while :; do sleep 0.1; done', '--model', 'x'])"
)
SPLIT = "/store/blobs/.ollama-split-0123456789ab-1/model-00001-of-00002.gguf"
BLOB = "sha256-" + "ab" * 32
RUNNER = ("--model", f"/store/blobs/{BLOB}", "--port", "40123")
MARKER = f"looks-of-{os.getpid()}:life"  # nobody sweeps it away


@contextmanager
def process(program: str, *arguments: str, marker: str = MARKER) -> Iterator[subprocess.Popen[bytes]]:
    """A child that runs this Python program and has said that it does; its group is ended at the end."""
    child = subprocess.Popen(
        [sys.executable, "-Sc", program, *arguments],
        env={MARKER_VARIABLE: marker},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


class Counted:
    """A function of a pid that keeps whom it was asked of."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.pids = function, list[int]()

    def __call__(self, pid: int, *rest: object) -> object:
        self.pids.append(pid)
        return self.function(pid, *rest)


def look(pid: int) -> ProcessLook:
    found = look_at_process(pid)
    assert found is not None
    return found


def tell(child: subprocess.Popen[bytes]) -> None:
    """Let it go on."""
    assert child.stdin is not None
    child.stdin.write(b"x")
    child.stdin.flush()


def wait_until_asleep(pid: int) -> ProcessLook:
    wait_until(lambda: look(pid).state == "S", limit_s=10, what="it sleeps")
    return look(pid)


def pids(runners: tuple[RunnerProcess, ...]) -> list[tuple[int, bool]]:
    return sorted((runner.process.pid, runner.is_orphan) for runner in runners)


def test_a_process_that_waits_is_asleep_and_not_runnable() -> None:
    with process(SLEEP) as child:
        seen = wait_until_asleep(child.pid)
    assert (seen.pid, seen.is_runnable) == (child.pid, False)


def test_a_process_that_works_is_runnable_and_its_ticks_grow() -> None:
    with process(SPIN) as child:
        before = look(child.pid)
        wait_until(lambda: look(child.pid).cpu_ticks > before.cpu_ticks, limit_s=10, what="its ticks grow")
        assert before.is_runnable


def test_a_working_thread_makes_a_process_runnable_whose_main_thread_sleeps() -> None:
    with process(SPIN_IN_A_THREAD) as child:
        assert wait_until_asleep(child.pid).is_runnable


def test_a_glance_tells_the_same_but_for_the_threads() -> None:
    with process(SPIN_IN_A_THREAD) as child:
        wait_until_asleep(child.pid)
        glance = look_at_process(child.pid, is_glance=True)
        assert glance is not None
        assert not glance.is_runnable
        assert glance.identity == look(child.pid).identity
        assert look(child.pid).cpu_ticks >= glance.cpu_ticks


def test_at_a_runner_at_rest_a_glance_is_taken() -> None:
    with process(SPIN_IN_A_THREAD, *RUNNER) as child:
        wait_until_asleep(child.pid)
        reader = RunnerReader()
        (closely,) = reader.read(os.getpid(), MARKER)
        (at_rest,) = reader.read(os.getpid(), MARKER, at_rest={closely.process.identity})
        assert (closely.process.is_runnable, at_rest.process.is_runnable) == (True, False)


def test_a_stopped_process_shows_it_and_is_not_runnable() -> None:
    with process(SPIN) as child:
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: look(child.pid).state == "T", limit_s=10, what="it stops")
        assert not look(child.pid).is_runnable


def test_what_a_process_moves_is_counted() -> None:
    with process(MOVE_WHEN_TOLD) as child:
        before = look(child.pid).moved_bytes or 0
        tell(child)
        wait_until(lambda: (look(child.pid).moved_bytes or 0) >= before + 50_000, limit_s=10, what="it moves")


def test_a_dead_process_that_nobody_has_reaped_is_gone() -> None:
    with process(SLEEP) as child:
        child.kill()
        wait_until(lambda: not is_alive(child.pid), limit_s=10, what="it is dead")
        assert look_at_process(child.pid) is None


def test_a_process_that_never_was_is_gone() -> None:
    assert look_at_process(4_194_305) is None  # above the largest pid_max


@pytest.mark.parametrize(
    ("arguments", "port", "blob"),
    [
        pytest.param(RUNNER, 40123, f"sha256:{'ab' * 32}", id="a blob"),
        pytest.param(("--model", SPLIT, "--port", "7"), 7, None, id="split"),
        pytest.param(("--mlx-engine", "--model", "qwen3:27b", "--port", "8"), 8, None, id="MLX"),
        pytest.param(("--model", "x"), None, None, id="no port"),
    ],
)
def test_a_runner_tells_its_port_and_its_weights(
    arguments: tuple[str, ...], port: int | None, blob: str | None
) -> None:
    with process(SLEEP, "runner", *arguments) as child:
        (seen,) = RunnerReader().read(os.getpid(), MARKER)
    assert (seen.process.pid, seen.port, seen.blob, seen.is_orphan) == (child.pid, port, blob, False)


def test_a_process_without_a_model_is_no_runner() -> None:
    with process(SLEEP, "--port", "40123", "--model"):
        assert RunnerReader().read(os.getpid(), MARKER) == ()


def test_a_child_that_has_not_executed_its_program_is_no_runner_yet() -> None:
    with process(FORK, *RUNNER) as child:
        assert pids(RunnerReader().read(os.getpid(), MARKER)) == [(child.pid, False)]


def test_behind_a_script_that_carries_its_arguments_the_real_runner_is_seen() -> None:
    with process(START_THE_REST, SLEEP, *RUNNER) as script:
        ((pid, _),) = pids(RunnerReader().read(os.getpid(), MARKER))
    assert pid != script.pid


def test_a_dead_runner_that_nobody_has_reaped_is_left_out() -> None:
    with process(SLEEP, *RUNNER) as child:
        reader = RunnerReader()
        reader.read(os.getpid(), MARKER)
        child.kill()
        wait_until(lambda: not is_alive(child.pid), limit_s=10, what="it is dead")
        assert reader.read(os.getpid(), MARKER) == ()


def test_the_arguments_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counted(process_reading.argv_of)
    monkeypatch.setattr(process_reading, "argv_of", read)
    with process(SLEEP, *RUNNER) as child:
        reader = RunnerReader()
        looks = [reader.read(os.getpid(), MARKER) for _ in range(3)]
    assert [pids(seen) for seen in looks] == [[(child.pid, False)]] * 3
    assert read.pids == [child.pid]


def test_the_marker_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counted(carries)
    monkeypatch.setattr(process_reading, "carries", read)
    with process(SLEEP, *RUNNER) as child:
        reader = RunnerReader()
        looks = [reader.read(0, MARKER) for _ in range(3)]
    assert [pids(seen) for seen in looks] == [[(child.pid, True)]] * 3
    assert read.pids == [child.pid]


def test_a_program_that_becomes_a_runner_is_seen_as_one() -> None:
    with process(BECOME_A_RUNNER) as child:
        reader = RunnerReader()
        before = reader.read(os.getpid(), MARKER)
        tell(child)
        wait_until(lambda: reader.read(os.getpid(), MARKER) != (), limit_s=10, what="it is a runner")
    assert before == ()


def test_a_child_of_ours_that_carries_the_marker_is_an_orphan_when_it_is_not_below_the_engine() -> None:
    with process(SLEEP) as engine, process(SLEEP, *RUNNER) as orphan:
        assert pids(RunnerReader().read(engine.pid, MARKER)) == [(orphan.pid, True)]


def test_a_runner_of_somebody_else_is_no_orphan() -> None:
    with process(SLEEP) as engine, process(SLEEP, *RUNNER, marker="another"):
        assert RunnerReader().read(engine.pid, MARKER) == ()


def test_a_child_that_was_started_on_purpose_is_no_orphan() -> None:
    with process(SLEEP) as engine, process(SLEEP, *RUNNER) as child:
        assert RunnerReader(is_owned=lambda pid: pid == child.pid).read(engine.pid, MARKER) == ()


def test_a_runner_that_loses_its_engine_to_another_parent_is_an_orphan() -> None:
    with process(START_THE_REST, SLEEP, *RUNNER) as engine:
        reader = RunnerReader()
        ((runner, _),) = pids(reader.read(engine.pid, MARKER))
        engine.kill()
        wait_until(lambda: not is_alive(engine.pid), limit_s=10, what="the engine is dead")
        assert pids(reader.read(engine.pid, MARKER)) == [(runner, True)]


def test_a_runner_that_the_list_of_children_leaves_out_is_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    with process(SLEEP, *RUNNER) as child:
        reader = RunnerReader()
        reader.read(os.getpid(), MARKER)
        monkeypatch.setattr(process_reading, "children_of", lambda _pid: [])
        assert pids(reader.read(os.getpid(), MARKER)) == [(child.pid, False)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listens on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", pick_free_port())) as server:
        yield server


def peers_at(port: int) -> set[int]:
    """Who is connected to it."""
    found = connections_to([port])
    assert found is not None
    return set(found[port].peers)


def unread_at(port: int) -> int:
    """What its peers have not read."""
    found = connections_to([port])
    assert found is not None
    return found[port].unread_bytes


def test_what_a_client_does_not_read_is_counted(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as accepted:
        accepted.sendall(b"x" * 1000)
        wait_until(lambda: unread_at(port) == 1000, limit_s=5, what="it waits")
        client.recv(1000)
        wait_until(lambda: unread_at(port) == 0, limit_s=5, what="it is read")


def test_a_connection_is_seen_with_its_far_port_before_it_is_accepted(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client:
        far = client.getsockname()[1]
        wait_until(lambda: peers_at(port) == {far}, limit_s=5, what="it is seen")


def test_a_connection_that_its_peer_has_closed_is_none(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with ExitStack() as stack:
        client = socket.create_connection(("127.0.0.1", port))
        stack.enter_context(listener.accept()[0])
        client.close()
        wait_until(lambda: peers_at(port) == set(), limit_s=5, what="it is gone")


def test_the_same_port_of_another_address_is_another_server(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_server(("127.0.0.2", port)), socket.create_connection(("127.0.0.2", port)):
        assert peers_at(port) == set()


def identity_of(child: subprocess.Popen[bytes]) -> Identity:
    return look(child.pid).identity


def test_exactly_the_named_processes_are_ended() -> None:
    with process(SLEEP) as victim, process(SLEEP) as other:
        identity = identity_of(victim)
        assert end_processes([identity], bound_s=2).killed == {identity}
        assert (is_alive(victim.pid), is_alive(other.pid)) == (False, True)


def test_a_later_process_of_the_same_number_is_never_ended() -> None:
    with process(SLEEP) as child:
        pid, start = identity_of(child)
        assert end_processes([(pid, start - 1)], bound_s=2) == Ends(
            killed=frozenset(), gone_before=frozenset({(pid, start - 1)})
        )
        assert is_alive(pid)


def test_a_later_process_of_the_same_number_is_never_continued() -> None:
    with process(SLEEP) as child:
        pid, start = identity_of(child)
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: look(pid).state == "T", limit_s=10, what="it stops")
        assert continue_processes([(pid, start - 1)]) == set()
        assert look(pid).state == "T"


def test_a_stopped_process_goes_on() -> None:
    with process(SLEEP) as child:
        identity = identity_of(child)
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: look(child.pid).state == "T", limit_s=10, what="it stops")
        assert continue_processes([identity]) == {identity}
        wait_until(lambda: look(child.pid).state == "S", limit_s=10, what="it goes on")


def test_a_stopped_process_is_ended_too() -> None:
    with process(SLEEP) as child:
        identity = identity_of(child)
        child.send_signal(signal.SIGSTOP)
        assert end_processes([identity], bound_s=2).killed == {identity}


def test_what_ended_by_itself_is_told_apart_from_what_was_killed() -> None:
    with process(SLEEP) as child:
        identity = identity_of(child)
        child.kill()
        wait_until(lambda: not is_alive(child.pid), limit_s=10, what="it is dead")
        ends = end_processes([identity], bound_s=2)
    assert ends == Ends(killed=frozenset(), gone_before=frozenset({identity}))
