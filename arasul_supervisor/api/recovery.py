"""`POST /api/gpu/recover`: free the GPU with the gentlest means that works."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.engine_state import in_mib
from arasul_supervisor.api.operations import Operation
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import (
    AlreadyRunning,
    ArasulError,
    EngineDown,
    EngineSilent,
)
from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.supervision.snapshot import State

if TYPE_CHECKING:
    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.supervision.snapshot import Snapshot

BOUND_S: Final = 12.0
ALL_STEPS_S: Final = 11.5
UNLOAD_S: Final = 4.0
LOOK_S: Final = 1.5
WISH: Final = "POST /api/gpu/recover"


@dataclass(frozen=True, slots=True)
class RecoveredView:
    """`action` is the strongest means that was used; `can_retry`: the engine answered after it.

    `status` is `success` when no model was left loaded, `partial` when that could not be seen.
    """

    status: str
    message: str
    freed_mb: float
    free_mb: float | None
    unloaded_models: tuple[str, ...]
    can_retry: bool
    action: str


class Recovery:
    """Unload; where that does not help kill the runners; where the engine stays silent restart it.

    A GPU that only a new start of this service brings back is left for at once, where one follows.
    """

    def __init__(self, access: EngineAccess) -> None:
        self._access = access
        self._engine = access.engine
        self._clock = access.clock
        self._recovery = Operation("gpu-recover")

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (
            Route(
                "POST",
                "/api/gpu/recover",
                self.recover,
                "Free the GPU: unload, then kill runners, then restart the engine",
                {200: RecoveredView},
                bound_s=BOUND_S,
                errors=(AlreadyRunning, EngineDown, EngineSilent),
            ),
        )

    async def recover(self, call: Call) -> Reply:
        """Free the GPU; one at a time, carried to its end."""
        self._access.require_up()
        if self._recovery.is_running:
            raise AlreadyRunning("A GPU recovery is under way already; wait for its end.")
        return Reply(await self._recovery.run(self._recover))

    async def close(self) -> None:
        """The daemon ends: so does a recovery under way."""
        await self._recovery.close()

    async def _recover(self) -> RecoveredView:
        deadline_mono = self._clock.mono() + ALL_STEPS_S
        before = self._access.residency.known
        self._access.asked.stop_restoring(WISH)
        left_for = self._access.asked.leave_for_the_gpu(WISH)
        if left_for is not None:
            return await self._view(Cure.EXIT, left_for, is_clear=False, can_retry=False)
        try:
            done = await self._access.residency.unload_all(bound_s=UNLOAD_S, is_forced=False)
            if done.was_clear:
                return await self._view(Cure.NONE, "No model was loaded; nothing was to do.")
            if not done.still_loaded:
                return await self._view(
                    Cure.UNLOAD, "Unloaded every model.", freed=done.unloaded, freed_bytes=done.freed_bytes
                )
            before = (*done.unloaded, *done.still_loaded)
        except ArasulError:  # silent, gone or refusing: its runners may still hold the GPU
            pass
        finally:
            self._access.models_changed()
        killed = await self._access.asked.end_all_runners(WISH, _names(before))
        left = await self._unload_the_dead()
        if left is None or (left and not killed):
            used = Cure.END_RUNNER if killed else Cure.UNLOAD
            return await self._restart(before, deadline_mono, used=used)
        return await self._view(
            Cure.END_RUNNER if killed else Cure.UNLOAD,
            f"Ended {killed} model runners by force." if killed else "Unloaded every model.",
            freed=_gone(before, left),
            is_clear=not left,
        )

    async def _restart(
        self, before: tuple[LoadedModel, ...], deadline_mono: float, *, used: Cure
    ) -> RecoveredView:
        generation = self._engine.snapshot.generation
        refusal = self._access.asked.ask_restart(WISH, "Ending its runners did not help.")
        if refusal is not None:
            told = f"Ollama still does not free its models, and is not restarted: {refusal}."
            return await self._view(used, told, is_clear=False, can_retry=await self._is_answering())

        def is_back(snapshot: Snapshot) -> bool:
            return snapshot.generation != generation and snapshot.state is State.RUNNING

        wait = asyncio.ensure_future(self._engine.wait_until(is_back))
        await asyncio.wait({wait}, timeout=max(0.0, deadline_mono - self._clock.mono() - LOOK_S))
        wait.cancel()
        is_answering = wait.done() and not wait.cancelled() and await self._is_answering()
        text = "Restarted Ollama" if is_answering else "Ollama is being restarted and does not answer yet"
        return await self._view(
            Cure.RESTART_ENGINE,
            f"{text}: ending its runners did not help.",
            freed=before if is_answering else (),
            is_clear=is_answering,
            can_retry=is_answering,
        )

    async def _unload_the_dead(self) -> tuple[LoadedModel, ...] | None:
        """What is still loaded; None when the engine does not say. Ollama lists a model until it notices that its
        runner is dead, which an unload makes it do (facts/ollama.md §6.1)."""
        try:
            done = await self._access.residency.unload_all(bound_s=LOOK_S, is_forced=False)
        except ArasulError:
            return None
        return done.still_loaded

    async def _is_answering(self) -> bool:
        try:
            await self._access.residency.loaded(timeout_s=LOOK_S)
        except ArasulError:
            return False
        return True

    async def _view(
        self,
        action: Cure,
        message: str,
        *,
        freed: tuple[LoadedModel, ...] = (),
        freed_bytes: int | None = None,
        is_clear: bool = True,
        can_retry: bool = True,
    ) -> RecoveredView:
        if freed_bytes is None:
            freed_bytes = sum(map(self._access.residency.held_bytes, freed))
        return RecoveredView(
            status="success" if is_clear else "partial",
            message=message,
            freed_mb=in_mib(freed_bytes) or 0.0,
            free_mb=await self._access.free_mib(),
            unloaded_models=tuple(model.name for model in freed),
            can_retry=can_retry,
            action=action.value,
        )


def _names(models: tuple[LoadedModel, ...]) -> str:
    names = ", ".join(model.name for model in models)
    return f"Asking it to unload did not free {names}." if names else "Ollama did not say what is loaded."


def _gone(before: tuple[LoadedModel, ...], left: tuple[LoadedModel, ...]) -> tuple[LoadedModel, ...]:
    still = {model.name for model in left}
    return tuple(model for model in before if model.name not in still)
