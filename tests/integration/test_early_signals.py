"""Guards the moments before the loop: a signal that comes then is kept or dropped, and ends nothing halfway."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, resource, signal, subprocess, sys
from arasul_supervisor.process_ground import EarlySignals

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
early = EarlySignals()
early.install()
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
child = subprocess.run([sys.executable, "-S", "-c", f"import os, signal; os.kill(os.getpid(), signal.{sys.argv[1]})"])
print(early.asked.name if early.asked else None, signal.Signals(-child.returncode).name)
"""


def _after(name: str) -> str:
    """What was asked after that signal, and what it does to a program that is started then."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT"])
def test_a_request_to_end_is_kept(name: str) -> None:
    assert _after(name) == f"{name} {name}"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_what_is_about_nothing_yet_is_dropped_and_the_engine_does_not_inherit_that(name: str) -> None:
    assert _after(name) == f"None {name}"
