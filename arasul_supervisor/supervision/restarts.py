"""The account of lives: how many short ones in a row, whether a start is our own, and what follows from it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from arasul_supervisor.supervision.restart_policy import (
    GiveUp,
    Life,
    Restart,
    is_short,
    next_start,
    short_lives_after,
)

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.board import Board
    from arasul_supervisor.supervision.restart_policy import RestartPolicy


class Restarts:
    """Keeps the account for the engine's owner, in its turn; the rule itself is in restart_policy.py."""

    def __init__(
        self, policy: RestartPolicy, grace_s: float, *, board: Board, clock: Clock, log: EventLog
    ) -> None:
        self._policy, self._grace_s = policy, grace_s
        self._board, self._clock, self._log = board, clock, log
        self._life: Life | None = None
        self._is_grace_due = True
        self._is_automatic = False

    def count_life(self) -> None:
        """A generation has ended unasked, or never got ready."""
        seen = self._board.snapshot
        ran_s = None if seen.ready_mono is None else self._clock.mono() - seen.ready_mono
        self._life = Life(ran_s)
        self._is_grace_due = self._is_grace_due or not is_short(self._life, self._policy)
        self._board.change(short_lives=short_lives_after(self._life, seen.short_lives, self._policy))

    def decide(self) -> Restart | GiveUp | None:
        """What follows the end of a life; None when none has ended and somebody wants a start."""
        seen = self._board.snapshot
        if self._life is None:
            self._board.change(decision="started anew", failure=None)
            return None
        life = Life(self._life.ran_s, seen.failure.code if seen.failure else None)
        decision = next_start(seen.short_lives, life, self._policy, random.random())
        self._is_automatic = True
        gave_up = isinstance(decision, GiveUp) or decision.gave_up
        self._board.change(decision=decision.reason, gave_up=gave_up)
        self._log.info("restart_decided", decision=decision.reason, short_lives=seen.short_lives)
        return decision

    def note_start(self) -> None:
        """A start is made now: count it if it was our own idea, and begin the grace anew where that is due."""
        seen = self._board.snapshot
        grace = {"grace_until_mono": self._clock.mono() + self._grace_s} if self._is_grace_due else {}
        self._board.change(restarts=seen.restarts + self._is_automatic, **grace)
        self._is_grace_due = self._is_automatic = False
        self._life = None

    def forget_short_lives(self) -> None:
        """After a good run, or when a person says what is wanted."""
        self._life = None
        self._is_automatic = False
        self._board.change(short_lives=0, gave_up=False)

    def renew_grace(self) -> None:
        """The next start begins the grace of `/health` anew."""
        self._is_grace_due = True
