"""How many pulls run at once. One that waits for long lends its slot to the next in the queue."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """Who comes back from a wait goes before those that have not begun."""

    def __init__(self, n_slots: int) -> None:
        self._n_free = n_slots
        self._returning: deque[asyncio.Future[None]] = deque()

    @property
    def is_free(self) -> bool:
        """True when one can be taken now."""
        return self._n_free > 0

    def take(self) -> bool:
        """Takes one; False when none is free."""
        if self._n_free == 0:
            return False
        self._n_free -= 1
        return True

    def give_back(self) -> None:
        """It is another's: of who comes back, else of who asks next."""
        while self._returning:
            turn = self._returning.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._n_free += 1

    async def take_again(self) -> None:
        """Takes one, and waits for it in the order of the calls."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same turn of the loop
                self.give_back()
            raise
