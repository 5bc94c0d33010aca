"""Unloading every model: `POST /api/cache/clear`, and Ollama's own spelling of the same wish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.engine_state import in_mib
from arasul_supervisor.api.routes import Route
from arasul_supervisor.clock import rfc3339
from arasul_supervisor.errors import EngineDown, EngineRefused, EngineSilent

if TYPE_CHECKING:
    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.residency import Unloaded

CLEAR_BOUND_S: Final = 5.0
UNLOAD_S: Final = 4.5


@dataclass(frozen=True, slots=True)
class ClearBody:
    """`force` ends models that are still answering a request."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class ClearedView:
    """What was unloaded, and what was not: `partial` means that these go when their requests are done."""

    status: str
    message: str
    unloaded_models: tuple[str, ...]
    failed_models: tuple[str, ...]
    freed_mb: float
    free_mb: float | None


class Unloading:
    """Unloads all models; says only what was seen afterwards."""

    def __init__(self, access: EngineAccess) -> None:
        self._access = access

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (
            Route(
                "POST",
                "/api/cache/clear",
                self.clear,
                "Unload every model, confirmed by looking again",
                {200: ClearedView},
                bound_s=CLEAR_BOUND_S,
                body=ClearBody,
                errors=(EngineRefused, EngineDown, EngineSilent),
            ),
        )

    async def clear(self, call: Call) -> Reply:
        """Unload all."""
        return Reply(await self.unload_all(is_forced=call.body_as(ClearBody).force))

    async def unload_all(self, *, is_forced: bool) -> ClearedView:
        """Unload all and look again.

        :raises EngineSilent: the engine does not say what became of the models
        """
        self._access.require_up()
        deadline_mono = self._access.clock.mono() + UNLOAD_S
        self._access.asked.stop_restoring("POST /api/cache/clear")
        ended = await self._access.asked.end_sick_runners("POST /api/cache/clear")
        left_s = round(
            deadline_mono - self._access.clock.mono(), 1
        )  # it stands in the sentence of an engine that is silent
        done = await self._access.residency.unload_all(bound_s=left_s, is_forced=is_forced)
        self._access.models_changed()
        unloaded = _gone(ended, done)
        return ClearedView(
            status="partial" if done.still_loaded else "success",
            message=_message(done, unloaded),
            unloaded_models=unloaded,
            failed_models=tuple(model.name for model in done.still_loaded),
            freed_mb=in_mib(done.freed_bytes) or 0.0,
            free_mb=await self._access.free_mib(),
        )

    async def as_generate_answer(self) -> Reply:
        """The same in the shape of Ollama's `/api/generate`."""
        cleared = await self.unload_all(is_forced=False)
        return Reply(
            {
                "model": "",
                "created_at": rfc3339(self._access.clock.wall()),
                "response": "",
                "done": True,
                "done_reason": "unload",
                "unloaded_models": cleared.unloaded_models,
                "failed_models": cleared.failed_models,
            }
        )


def _gone(ended: tuple[str, ...], done: Unloaded) -> tuple[str, ...]:
    """Also those that Ollama has dropped from its list as soon as their sick runners were ended."""
    listed = {model.name for model in (*done.unloaded, *done.still_loaded)}
    return (*(name for name in ended if name not in listed), *(model.name for model in done.unloaded))


def _message(done: Unloaded, unloaded: tuple[str, ...]) -> str:
    if done.was_clear and not unloaded:
        return "LLM cache cleared (already clear: no model was loaded)"
    names = ", ".join(unloaded)
    if done.still_loaded:
        gone = f" Unloaded {names}." if names else ""
        return f'{still_loaded_sentence(done)}{gone} {{"force": true}} ends it now.'
    return f"LLM cache cleared: unloaded {names}"


def still_loaded_sentence(done: Unloaded) -> str:
    """Why models did not go: they answer a request, or were removed from the disk while they were loaded."""
    deleted = ", ".join(model.name for model in done.deleted)
    busy = ", ".join(model.name for model in done.still_loaded if model not in done.deleted)
    sentences = []
    if busy:
        sentences.append(f"Still answering a request: {busy}, which will go when done.")
    if deleted:
        sentences.append(f"Deleted while loaded, so that Ollama cannot unload it: {deleted}.")
    return " ".join(sentences)
