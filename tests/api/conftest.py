"""Ports for the tests of the API: one over a fake engine, one over nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import pick_free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.fake import FakeEngine

START_LIMIT_S = 10.0


@pytest.fixture
def engine_port(fake_engine: FakeEngine) -> Iterator[int]:
    """The port of a fake engine that runs by itself, without a daemon; steered by `fake_engine.control`."""
    port = pick_free_port()
    environment = {**os.environ, **fake_engine.environment(), "OLLAMA_HOST": f"127.0.0.1:{port}"}
    engine = subprocess.Popen(
        [str(fake_engine.binary), "serve"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_listening(port)
        yield port
    finally:
        engine.send_signal(signal.SIGCONT)
        engine.kill()
        engine.wait()


def _wait_until_listening(port: int) -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    pytest.fail(f"the fake engine does not listen on {port}")
