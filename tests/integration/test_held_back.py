"""Guards the budget of memory (DESIGN §12): the daemon loads nothing heavy that it does not need, and misses nothing.

How many MiB that makes is measured by bench/; here only what is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor import held_back
from arasul_supervisor.held_back import HELD_BACK, OPENSSL, hold_back
from tests.engine.daemon import REPOSITORY
from tests.engine.store import install_model

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

    from tests.engine.daemon import Daemon, DaemonFactory

LIBRARIES: Final = ("libssl", "libcrypto", "libstdc++", "liblzma", "libbz2")
UNCOVERED: Final = {name: None for name in os.environ if name.startswith("COVERAGE_")}
"""What measures coverage would bring some of them along."""

TELL_AT_THE_END: Final = """
import atexit, sys
def tell():
    with open({path!r}, "w") as file:
        file.write(" ".join(name for name, module in sys.modules.items() if module is not None))
atexit.register(tell)
"""
LOG_AN_ERROR: Final = """
from arasul_supervisor.held_back import hold_back
hold_back()
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.logs.daemon_log import DaemonLog
from arasul_supervisor.logs.stdout import StdoutWriter
log, writer = DaemonLog(SystemClock()), StdoutWriter(log_format="console", clock=SystemClock(), fd=1)
log.start(writer, log_format="console", level="info")
try:
    raise RuntimeError("boom")
except RuntimeError as error:
    log.exception("unexpected", error)
writer.close(timeout_s=5.0)
"""
HASH: Final = """
from arasul_supervisor.held_back import fast_sha256, hold_back
hold_back()
import hashlib
print("openssl" in repr(hashlib.sha256).lower(), type(fast_sha256()).__module__)
print(hashlib.sha256(b"").hexdigest() == fast_sha256().hexdigest())
"""
VERSION_AND_TELL: Final = """
import sys
from arasul_supervisor.cli import main
main(["version"])
print([name for name, module in sys.modules.items() if module is None])
"""


def test_an_idle_daemon_has_loaded_none_of_them(daemon: DaemonFactory, tmp_path: Path) -> None:
    hook, told = tmp_path / "hook", tmp_path / "modules"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(TELL_AT_THE_END.format(path=str(told)))
    running = daemon(env={**UNCOVERED, "PYTHONPATH": f"{hook}:{REPOSITORY}"}).wait_ready()

    libraries = libraries_of(running)
    running.stop()

    loaded = set(told.read_text().split())
    assert "aiohttp" in loaded
    assert loaded & {*HELD_BACK, OPENSSL, "difflib", "secrets"} == set()
    assert libraries == set()


def test_the_hashes_of_openssl_are_loaded_once_there_are_gigabytes_to_hash(
    daemon: DaemonFactory, tmp_path: Path
) -> None:
    (tmp_path / "gguf").write_bytes(b"weights")
    install_model(tmp_path / "store", "tiny", tmp_path / "gguf")
    running = daemon(env=UNCOVERED, models=tmp_path / "store").wait_ready()

    job = running.request("POST", "/api/models/verify").json()["id"]
    running.wait_for(
        lambda: running.get(f"/api/models/pulls/{job}").json()["state"] == "done", what="the job is done"
    )

    assert libraries_of(running) == {"libcrypto"}


def libraries_of(running: Daemon) -> set[str]:
    """Which of them are mapped into the daemon."""
    mapped = Path(f"/proc/{running.pid}/maps").read_text(encoding="utf-8")
    return {name for name in LIBRARIES if f"/{name}" in mapped}


def test_what_hashes_gigabytes_is_openssls_and_says_the_same_as_what_stands_in_for_it() -> None:
    assert said_by(HASH) == ["False _hashlib", "True"]


def test_openssls_hashes_are_kept_where_python_was_built_without_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules: dict[str, ModuleType | None] = {}
    monkeypatch.setattr(held_back, "_modules", lambda: modules)
    monkeypatch.setattr(held_back, "_is_there", lambda _name: False)

    hold_back()

    assert modules == dict.fromkeys(HELD_BACK)


def test_an_unexpected_error_shows_its_traceback_on_a_terminal_without_rich() -> None:
    lines = said_by(LOG_AN_ERROR)

    assert "unexpected" in lines[0]
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: boom"


def test_a_command_that_is_not_the_daemon_has_all_modules() -> None:
    assert said_by(VERSION_AND_TELL)[-1] == "[]"


def said_by(program: str) -> list[str]:
    """The lines of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=15
    )
    return done.stdout.splitlines()
