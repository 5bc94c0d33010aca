"""What a service manager hears of this life: ready, the state in one sentence, signs of life, more time, stopping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision.notify import extend_timeout, status
from arasul_supervisor.supervision.snapshot import State, Wanted, why_down

if TYPE_CHECKING:
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.notify import Notifier
    from arasul_supervisor.supervision.snapshot import Snapshot

_PERIOD_S: Final = 5.0
_SIGNS_PER_LIMIT: Final = 3
_EXTENSION_S: Final = 15.0
_STOP_MARGIN_S: Final = 5.0


class ServiceNotices:
    """Speaks for the daemon while it lives. Silent where no manager listens."""

    def __init__(self, notifier: Notifier, engine: Engine, *, watchdog_s: float | None) -> None:
        """Take the parts.

        :param watchdog_s: the manager's limit between two signs of life, or None
        """
        self._notifier, self._engine = notifier, engine
        self._watchdog_s = watchdog_s
        self._sentence = ""
        self._is_served = self._is_ready = self._is_stopping = False

    def follow(self, seen: Snapshot) -> None:
        """Tell the state when its sentence changes, and READY when it is due. Called with every snapshot."""
        if self._is_stopping:
            return
        sentence = sentence_of(seen)
        is_ready = self._is_ready or (self._is_served and is_start_decided(seen))
        told = [status(sentence)] if sentence != self._sentence else []
        if is_ready and not self._is_ready:
            told.append("READY=1")
        if told and self._notifier.send(*told):  # else told again by the next turn of `run`
            self._sentence, self._is_ready = sentence, is_ready

    def served(self) -> None:
        """The management API answers from now on."""
        self._is_served = True
        self.follow(self._engine.snapshot)

    def stopping(self, within_s: float) -> None:
        """The daemon ends, and takes so long at most."""
        self._is_stopping = True
        more_time = extend_timeout(within_s + _STOP_MARGIN_S)
        self._notifier.send("STOPPING=1", status("Ending, and Ollama with it."), more_time)

    async def run(self) -> None:
        """Give signs of life until cancelled: each one has been through the loop and through the engine's owner."""
        limit_s = self._watchdog_s
        period_s = _PERIOD_S if limit_s is None else min(_PERIOD_S, limit_s / _SIGNS_PER_LIMIT)
        while True:
            try:
                await self._engine.take_turn()
            except EngineDown:
                return
            self.follow(self._engine.snapshot)
            if limit_s is not None:
                self._notifier.send("WATCHDOG=1")
            if not self._is_ready and not self._is_stopping:
                # bounded by OLLAMA_STARTUP_TIMEOUT: past it the first start has failed, which is READY
                self._notifier.send(extend_timeout(_EXTENSION_S))
            await asyncio.sleep(period_s)


def is_start_decided(seen: Snapshot) -> bool:
    """True once the first start has come to something: an answer, a failure, or an operator who does not want it."""
    if seen.last_exit is not None or seen.wanted is Wanted.DOWN:
        return True
    return seen.state in (State.RUNNING, State.FATAL)


def sentence_of(seen: Snapshot) -> str:
    """The state as `systemctl status` shows it."""
    if seen.is_answering:
        return f"Ollama {seen.engine_version or ''} answers.".replace("  ", " ")
    return why_down(seen)
