"""Guards that the runners of an engine are known before one of them dies, at no cost while nothing is started."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.supervision import vital_signs
from arasul_supervisor.supervision.board import Board
from arasul_supervisor.supervision.generation import Beat
from arasul_supervisor.supervision.runners import newest_pid
from arasul_supervisor.supervision.snapshot import State
from arasul_supervisor.supervision.vital_signs import VitalSigns
from tests.engine.log_ground import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arasul_supervisor.supervision.generation import Generation


class Beating:
    """Vital signs of a running engine, that is this process; `lists` grows whenever its runners are listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: list[int] = []
        self.newest: int | None = 100
        self.living: dict[int, str] = {}
        board = Board(Told([]))
        board.change(state=State.RUNNING, generation=1)
        self.signs = VitalSigns(board=board, clock=SystemClock(), log=Told([]))
        monkeypatch.setattr(vital_signs, "living_names", self._list)
        monkeypatch.setattr(vital_signs, "newest_pid", lambda: self.newest)

    def beat(self, times: int) -> int:
        """So many heartbeats; how often the runners were listed meanwhile."""
        before = len(self.lists)
        child = SimpleNamespace(pid=os.getpid(), is_stopped=lambda: False)
        generation = cast("Generation", SimpleNamespace(child=child))  # all that is looked at of it
        for _ in range(times):
            self.signs.note(Beat(1, is_answered=True), generation)
        return len(self.lists) - before

    def _list(self, pid: int) -> dict[int, str]:
        self.lists.append(pid)
        return self.living


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beating]:
    made = Beating(monkeypatch)
    yield made
    made.signs.close()


def test_the_runners_are_listed_once_and_not_again_while_nothing_is_started(beating: Beating) -> None:
    assert beating.beat(2) == 1
    assert beating.beat(20) == 0


def test_they_are_listed_again_after_something_was_started(beating: Beating) -> None:
    beating.beat(2)
    beating.newest = 101
    assert beating.beat(2) == 1


def test_they_are_listed_again_after_one_of_them_has_ended(beating: Beating) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as runner:
        beating.living = {runner.pid: "llama-server"}
        assert beating.beat(4) == 1
    beating.living = {}
    assert beating.beat(4) == 1


def test_where_the_kernel_does_not_tell_they_are_listed_at_every_second_beat(beating: Beating) -> None:
    beating.newest = None
    assert beating.beat(10) == 5


def test_a_process_that_was_started_is_the_newest() -> None:
    before = newest_pid()
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        after = newest_pid()
    assert before is not None
    assert after is not None
    assert after != before
    assert (
        after >= child.pid or after < before
    )  # others may have been started since; numbers begin anew some time
