"""The daemon fixture starts what a user starts, and finds what a daemon leaves alive; heavy imports wait for the spawn.

The order is the contract's (§3): strays, spawn, heavy imports, serve. It is read from the interpreter's own audit
events, so no clock can blur it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engine.daemon import REPOSITORY
from tests.engine.processes import pids_with

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine

HEAVY = {"aiohttp", "asyncio", "msgspec", "psutil", "pynvml", "rich", "structlog"}
WRITE_DOWN = """
import os, sys
_log = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def _hear(event, args):
    if event == "import":
        os.write(_log, f"import {{args[0]}}\\n".encode())
    elif event == "os.posix_spawn":
        os.write(_log, f"spawn {{args[0]}}\\n".encode())
sys.addaudithook(_hear)
"""


def test_a_daemon_runs_and_stops_with_nothing_left(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon("helpers,count=2;escape,count=1").wait_ready()
    alive = pids_with(running.marker)

    code = running.stop()

    assert {running.pid, *fake_engine.pids()} <= set(alive)
    assert code == 0
    assert running.survivors() == {}


def test_the_fake_engine_is_told_through_the_daemon(daemon: DaemonFactory, fake_engine: FakeEngine) -> None:
    running = daemon().wait_ready()

    running.engine("GET", "/api/tags")

    assert fake_engine.dump()["environ"]["OLLAMA_HOST"].endswith(str(running.engine_port))
    assert "/api/tags" in [entry["target"] for entry in fake_engine.requests()]


def test_the_engine_is_spawned_before_heavy_imports(
    daemon: DaemonFactory, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    log = tmp_path / "audit"
    (tmp_path / "hook" / "sitecustomize.py").write_text(WRITE_DOWN.format(path=str(log)))
    path = f"{tmp_path / 'hook'}:{REPOSITORY}"

    daemon(env={"PYTHONPATH": path}).wait_ready().stop()

    events = log.read_text().splitlines()
    spawn = events.index(f"spawn {fake_engine.binary}")
    assert _imported(events[:spawn]) & HEAVY == set()
    assert _imported(events[spawn:]) >= {"aiohttp"}


def _imported(events: list[str]) -> set[str]:
    return {event.removeprefix("import ") for event in events}
