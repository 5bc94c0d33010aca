"""Guards that others see the engine as it was published, never amid a turn of its owner."""

from __future__ import annotations

from arasul_supervisor.supervision.board import Board
from arasul_supervisor.supervision.snapshot import Snapshot
from tests.engine.log_ground import Told


def test_a_change_is_the_owners_alone_until_it_is_published() -> None:
    board = Board(Told([]))
    board.change(pid=1, generation=1)
    before = board.published
    board.publish()

    assert (before.pid, before.generation) == (None, 0)
    assert (board.published.pid, board.published.generation) == (1, 1)


def test_a_look_from_elsewhere_amid_a_turn_takes_no_change_away() -> None:
    board = Board(Told([]))
    board.change(pid=1)
    seen = board.published
    board.change(generation=1)

    assert seen.pid is None
    assert (board.snapshot.pid, board.snapshot.generation) == (1, 1)


def test_nothing_is_shown_to_subscribers_while_nothing_has_changed() -> None:
    board, seen = Board(Told([])), list[Snapshot]()
    board.subscribe(seen.append)
    board.publish()
    board.change(pid=1)
    board.publish()
    board.publish()

    assert [snapshot.pid for snapshot in seen] == [1]
