"""Guards the child of a look at a registry: it shows nothing secret, leaves nothing behind, and hides no failure."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.ollama.pulls.registry import Registry
from tests.api.stubs import StubLog
from tests.engine.registry_looks import PROGRAM, looks
from tests.engine.telemetry_ground import Pids, is_alive, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOOK_AND_TELL = """
import asyncio, sys
from tests.api.stubs import StubLog
from tests.engine.registry_looks import looks
asyncio.run(looks(StubLog()).manifest(sys.argv[1], is_insecure=True))
"""


@asynccontextmanager
async def silent_registry() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The name of a model in a registry that says nothing, and what is set once it was asked."""
    asked = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        with suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/library/tiny", asked
    finally:
        server.close()


def looks_of(pids: Pids) -> Registry:
    return Registry(SystemClock(), StubLog(), own=pids.own, disown=pids.disown)


async def test_the_child_of_a_look_is_owned_until_it_is_reaped(free_port: int) -> None:
    pids = Pids()
    look = looks_of(pids)

    await look.manifest(f"127.0.0.1:{free_port}/library/tiny", is_insecure=True)
    await look.close()

    assert (len(pids.ever), pids.owned) == (1, set())
    assert not is_alive(pids.ever[0])


async def test_a_look_that_is_given_up_ends_its_child() -> None:
    pids = Pids()
    look = looks_of(pids)
    async with silent_registry() as (name, asked):
        task = asyncio.create_task(look.manifest(name, is_insecure=True))
        await asyncio.wait_for(asked.wait(), 10)
        task.cancel()
        await asyncio.wait((task,))
        await until(lambda: not pids.owned)

    assert task.cancelled()
    assert not is_alive(pids.ever[0])


async def test_the_end_of_all_looks_ends_those_that_are_under_way() -> None:
    pids = Pids()
    look = looks_of(pids)
    async with silent_registry() as (name, asked):
        task = asyncio.create_task(look.manifest(name, is_insecure=True))
        await asyncio.wait_for(asked.wait(), 10)
        await look.close()

        assert not pids.owned
        assert await task is None


async def test_the_child_dies_with_the_daemon() -> None:
    async with silent_registry() as (name, asked):
        daemon = looking_daemon(name)
        await asyncio.wait_for(asked.wait(), 10)
        child = int(proc_file(daemon.pid, f"task/{daemon.pid}/children"))
        daemon.send_signal(signal.SIGKILL)
        await asyncio.to_thread(daemon.wait)

        await until(lambda: not is_running(child))


def looking_daemon(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LOOK_AND_TELL, name])


def proc_file(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def is_running(pid: int) -> bool:
    """True unless it is dead; who reaps it is not ours to say."""
    try:
        return proc_file(pid, "stat").rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


async def test_what_is_asked_does_not_stand_in_the_list_of_processes() -> None:
    pids = Pids()
    look = looks_of(pids)
    async with silent_registry() as (name, asked):
        task = asyncio.create_task(look.manifest(name, is_insecure=True))
        await asyncio.wait_for(asked.wait(), 10)
        command = proc_file(pids.ever[0], "cmdline")
        await look.close()
        await task

    assert os.fsencode(PROGRAM) in command
    assert b"127.0.0.1" not in command


@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param("raise SystemExit(3)", "ended without an answer (exit code 3)", id="it ends"),
        pytest.param("print('hello')", "wrote something that is not JSON", id="it speaks no JSON"),
        pytest.param('print(\'{"failed":"ImportError"}\')', "ImportError", id="it tells of a fault"),
    ],
)
async def test_a_child_that_fails_leaves_it_to_ollama_and_is_told(
    program: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(program)
    log = StubLog()
    look = looks(log, program=tmp_path / "program.py")

    found = await look.manifest("127.0.0.1:1/library/tiny", is_insecure=True)
    await look.close()

    [(event, fields)] = log.events
    assert (found, event) == (None, "registry_look_failed")
    assert told in str(fields["error"])


async def test_a_program_that_cannot_be_started_leaves_it_to_ollama_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    log = StubLog()
    look = looks(log)

    found = await look.manifest("127.0.0.1:1/library/tiny", is_insecure=True)

    assert found is None
    assert [event for event, _ in log.events] == ["registry_look_failed"]
