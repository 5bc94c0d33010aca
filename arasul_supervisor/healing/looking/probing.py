"""The one active witness: a token asked straight of a runner at rest, where nothing else decides (ARASUL_PROBE).

A suspend, or a GPU that reports a fault, may leave a runner dead without a sign of it: nobody asks it anything. The
question goes past Ollama, so that it can neither load nor evict a model, and does not touch its keep-alive.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.bounded import end_task
from arasul_supervisor.healing.diagnosis.verdicts import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.history.runner_history import RunnerHistory
    from arasul_supervisor.healing.looking.runner_questions import RunnerQuestions
    from arasul_supervisor.supervision.process_looks import Identity

DOUBT_S: Final = 300.0
"""For how long after its cause a doubt stands: by then somebody has asked the model anyway, or it has gone."""
RESTED_S: Final = 5.0
_FAULTS: Final = ("gpu_fault", "gpu_lost", "gpu_unreadable")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a runner at rest may be dead, and since when."""

    since_mono: float
    why: str


def doubt_in(history: History) -> Doubt | None:
    """What casts doubt on every runner now; None where nothing does. Pure."""
    look = history.look
    if look is None:
        return None
    if history.gap_mono is not None and look.now_mono - history.gap_mono <= DOUBT_S:
        return Doubt(history.gap_mono, "this box was suspended or paused")
    for outcome in _FAULTS:
        _, last_mono = look.log.outcomes.get(outcome, (0, float("-inf")))
        if look.now_mono - last_mono <= DOUBT_S:
            return Doubt(last_mono, f"the log told of {outcome}")
    return None


def doubtful(
    history: History, doubt: Doubt, probed: Sequence[tuple[Identity, float]]
) -> RunnerHistory | None:
    """The next runner to be asked: at rest, healthy by all other signs, and not asked since the doubt arose. Pure."""
    asked = {identity for identity, asked_mono in probed if asked_mono >= doubt.since_mono}
    for identity, runner in history.runners.items():
        is_at_rest = runner.is_busy is False and runner.idle_s >= RESTED_S
        is_well = not runner.is_loading and not runner.is_silent and not runner.look.is_orphan
        if is_at_rest and is_well and runner.look.port is not None and identity not in asked:
            return runner
    return None


class Probing:
    """Owns the probe under way; at most one at a time."""

    def __init__(self, questions: RunnerQuestions, limits: Limits, *, is_allowed: bool) -> None:
        self._questions, self._limits, self._is_allowed = questions, limits, is_allowed
        self._probed: list[tuple[Identity, float]] = []
        self._failed: dict[Identity, Verdict] = {}
        self._task: asyncio.Task[None] | None = None

    def take_turn(self, history: History) -> None:
        """Begin a probe where one is allowed, needed, and none is under way."""
        self._failed = {
            one: verdict
            for one, verdict in self._failed.items()
            if _is_still(history.runners.get(one), self._limits)
        }
        doubt = doubt_in(history) if self._is_allowed else None
        if doubt is None or history.look is None or (self._task is not None and not self._task.done()):
            return
        runner = doubtful(history, doubt, self._probed)
        if runner is not None:
            self._probed = [*self._probed[-63:], (runner.look.identity, history.look.now_mono)]
            name = history.name_of(runner.look.blob)
            probe = self._probe(runner, name, doubt, is_llama_server=_is_llama_server(history))
            self._task = asyncio.get_running_loop().create_task(probe, name="probe")

    def verdicts(self) -> tuple[Verdict, ...]:
        """The runners that left a probe without an answer, and are still there."""
        return tuple(self._failed.values())

    async def close(self) -> None:
        """End a probe under way."""
        if self._task is not None:
            await end_task(self._task)

    async def _probe(
        self, runner: RunnerHistory, name: str | None, doubt: Doubt, *, is_llama_server: bool
    ) -> None:
        timeout_s = self._limits.stuck_s
        is_well = await self._questions.probe(
            runner.look.port or 0, is_llama_server=is_llama_server, timeout_s=timeout_s
        )
        if is_well is False:  # counts only while it stands still as well, see take_turn
            self._failed[runner.look.identity] = Verdict(
                Kind.RUNNER_STUCK,
                f"The runner {runner.look.process.pid}{f' of {name}' if name else ''} was asked for one token because "
                f"{doubt.why}, has not made it in {timeout_s:.0f} s, and does not compute.",
                since_mono=doubt.since_mono,
                runner=runner.look.identity,
                model=name,
            )


def _is_still(runner: RunnerHistory | None, limits: Limits) -> bool:
    """Whether it has not computed all the while: a probe may also have waited behind a user's request (§7, notes)."""
    return runner is not None and runner.still.for_s >= limits.stuck_s


def _is_llama_server(history: History) -> bool:
    return history.engine is not None and history.engine.look.is_llama_server
