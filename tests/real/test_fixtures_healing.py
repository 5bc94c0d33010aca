"""The ground of the healing scenarios holds: its engine does as it is told, and its clients note what they see."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.healing_ground import start_fake, start_real
from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.healing_ground import HealingGround
    from tests.engine.store import ModelFiles

UNHEALED = {"ARASUL_HEAL": "off"}


@pytest.fixture
def ground(
    daemon: DaemonFactory, engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> HealingGround:
    """Over the real engine, with a wrapper around llama-server, and without healing."""
    return start_real(daemon, engine_binary, tmp_path, model_files, env=UNHEALED, is_commanded=True)


def test_a_commanded_runner_hangs_without_being_stopped(ground: HealingGround) -> None:
    ground.order("hang")
    with ground.waiting("tiny") as client:
        pid = ground.runner_of("tiny")
        time.sleep(1)

        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        assert ground.listed() == []
        os.kill(pid, signal.SIGKILL)
        wait_until(client.is_over.is_set, limit_s=10, what="its client is told")
    assert "has terminated" in client.errors[0][1]


def test_a_commanded_runner_dies_before_it_has_loaded(ground: HealingGround) -> None:
    ground.order("die")
    with ground.waiting("tiny") as client:
        wait_until(client.is_over.is_set, limit_s=10, what="its client is told")
    ground.order("")

    assert client.errors[0][1] == "llama-server process has terminated: signal: killed"
    assert is_alive(ground.load("tiny"))


def test_an_orphan_is_a_child_of_the_daemon(ground: HealingGround) -> None:
    orphan = ground.start_orphan("tiny")

    wait_until(lambda: _parent(orphan) == ground.daemon.pid, limit_s=2, what="it is adopted")
    assert list(ground.runners().values()) == [ground.blobs["tiny"]] * 2
    assert _parent(next(pid for pid in ground.runners() if pid != orphan)) == ground.engine_pid
    os.kill(orphan, signal.SIGKILL)


def test_a_client_notes_the_pause_of_a_frozen_runner_and_the_other_none(ground: HealingGround) -> None:
    with ground.generating("other") as other, ground.answering("tiny") as client:
        begun = time.monotonic()
        os.kill(ground.runner_of("tiny"), signal.SIGSTOP)
        time.sleep(1.5)
        frozen = time.monotonic()
        os.kill(ground.runner_of("tiny"), signal.SIGCONT)
        wait_until(lambda: client.tokens_mono[-1] > frozen, limit_s=5, what="it goes on")

        assert client.longest_gap_s(begun, frozen) > 1
        assert other.longest_gap_s(begun, frozen) < 1
    assert (client.errors, other.errors) == ([], [])


def test_a_client_notes_the_error_of_a_killed_runner(ground: HealingGround) -> None:
    with ground.answering("tiny") as client:
        os.kill(ground.runner_of("tiny"), signal.SIGKILL)
        wait_until(client.is_over.is_set, limit_s=10, what="it is told")

    assert "unexpected EOF" in client.errors[0][1]


@pytest.mark.parametrize("family", ["0.24", "0.34"])
def test_the_runners_of_the_fake_engine_are_known_by_their_weights(
    daemon: DaemonFactory, fake_engine: FakeEngine, tmp_path: Path, model_files: ModelFiles, family: str
) -> None:
    modes = f"runners,family={family};tokens,s=0.02"
    ground = start_fake(daemon, fake_engine, tmp_path, model_files, modes, env=UNHEALED)

    with ground.answering("other") as client:
        assert list(ground.runners().values()) == [ground.blobs["other"]]
        assert ground.listed() == ["other:latest"]
    assert client.errors == []


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
