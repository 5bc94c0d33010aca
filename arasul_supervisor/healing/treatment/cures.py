"""What a cure does to the world. Each does one thing, within a bound; whether it helped is seen by later looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.ollama.residency import Residency
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.process_looks import Identity

EXIT_GPU_GONE: Final = 72
UNLOAD_S: Final = 5.0


class Cures:
    """Runs them. It decides nothing."""

    def __init__(
        self,
        engine: Engine,
        residency: Residency,
        *,
        cancel_load: Callable[[str], object],
        leave: Callable[[int], None],
        tail: Callable[[int], Sequence[str]],
        log: EventLog,
    ) -> None:
        """Take the hands.

        :param cancel_load: ends the load that the daemon itself has under way; takes the reason as a clause
        :param leave: ends the daemon with that exit code
        :param tail: the last lines of a generation, redacted
        """
        self._engine, self._residency = engine, residency
        self._cancel_load, self._leave, self.log_tail, self._log = cancel_load, leave, tail, log

    @property
    def ended_runners(self) -> frozenset[Identity]:
        """Those that we have ended lately, whoever asked for it."""
        return self._engine.ended_runners

    async def apply(self, cure: Cure, verdict: Verdict, history: History) -> None:
        """Do it now. An engine that refuses or is silent is what the next look shows, and no error here."""
        if cure is Cure.CONTINUE:
            await self._continue(verdict, history)
        elif cure is Cure.CANCEL_LOAD:
            self._cancel_load("its load did not move")
        elif cure is Cure.UNLOAD and verdict.model is not None:
            await self.unload(verdict.model)
        elif cure is Cure.END_RUNNER and verdict.runner is not None:
            await self.end_runners([verdict.runner])
        elif cure is Cure.RESTART_ENGINE:
            reason = f"restarted by healing: {verdict.kind.value}"
            self._engine.ask_cure_restart(reason, generation=history.generation)
        elif cure is Cure.EXIT:
            self._log.error("leaving_for_the_gpu", exit_code=EXIT_GPU_GONE, reason=verdict.evidence)
            self._leave(EXIT_GPU_GONE)

    async def end_runners(self, runners: Collection[Identity]) -> None:
        """SIGKILL these, and wait a moment for their end."""
        try:
            await self._engine.end_runners(runners)
        except OSError as error:  # no descriptor is left
            self._log.error("runners_not_ended", pids=[pid for pid, _ in runners], reason=str(error))

    async def unload(self, model: str) -> bool:
        """Ask Ollama to unload it, and look whether it went; False where it did not within 5 s."""
        try:
            return await self._residency.unload(model, bound_s=UNLOAD_S)
        except ArasulError as error:
            self._log.warning("unload_failed", model=model, reason=error.sentence)
            return False

    async def _continue(self, verdict: Verdict, history: History) -> None:
        if verdict.kind is Kind.ENGINE_FROZEN:
            process = history.engine.look.process if history.engine else None
            identities = [process.identity] if process else []
        else:
            identities = [verdict.runner] if verdict.runner else []
        await self._engine.continue_processes(identities)
