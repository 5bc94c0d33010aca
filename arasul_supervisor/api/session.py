"""`POST /api/session/reset`: unload everything, load one model afresh."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.engine_state import in_mib
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.operations import Operation
from arasul_supervisor.api.routes import Route
from arasul_supervisor.api.unloading import still_loaded_sentence
from arasul_supervisor.bounded import end_task
from arasul_supervisor.errors import (
    AlreadyRunning,
    EngineDown,
    EngineRefused,
    EngineSilent,
    ModelBusy,
    ModelNotFound,
    ModelNotInstalled,
    ModelQuarantined,
)
from arasul_supervisor.healing.aftermath.load_progress import carry_load
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.healing.aftermath.load_progress import LoadProgress
    from arasul_supervisor.healing.aftermath.own_loads import OwnLoads
    from arasul_supervisor.ollama.models import LoadedModel
    from arasul_supervisor.ollama.residency import Unloaded

LIST_S: Final = 3.0
UNLOAD_S: Final = 10.0
WISH: Final = "POST /api/session/reset"


@dataclass(frozen=True, slots=True)
class ResetView:
    """The model that is loaded now, and what was unloaded for it."""

    message: str
    model: str
    unloaded_models: tuple[str, ...]
    freed_mb: float
    load_s: float
    status: str = "success"


class Session:
    """Resets once at a time. A reset that has begun is carried to its end, also when its client leaves."""

    def __init__(
        self,
        access: EngineAccess,
        progress: LoadProgress,
        *,
        default_model: str,
        load_options: Callable[[], Mapping[str, int]],
        reason_against: Callable[[str], str | None],
        own_loads: OwnLoads,
    ) -> None:
        """Take the parts.

        :param reason_against: why that model must not be loaded, where it is quarantined
        """
        self._access = access
        self._progress = progress
        self._default_model = default_model
        self._load_options = load_options
        self._reason_against, self._own_loads = reason_against, own_loads
        self._clock = access.clock
        self._reset = Operation("session-reset")

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint. It bounds itself: by 300 s without progress of the load."""
        return (
            Route(
                "POST",
                "/api/session/reset",
                self.reset,
                "Unload every model and load the default one (or `model`) afresh",
                {200: ResetView},
                body=NamedModel,
                errors=(
                    ModelNotInstalled,
                    AlreadyRunning,
                    ModelBusy,
                    ModelQuarantined,
                    EngineRefused,
                    EngineDown,
                    EngineSilent,
                ),
            ),
        )

    async def reset(self, call: Call) -> Reply:
        """Unload all, then load; ends when the model is seen loaded, or the load fails."""
        body = call.body_as(NamedModel)
        name = body.checked_name() if body.is_given else self._default_model
        self._access.require_up()
        reason = self._reason_against(name)
        if reason is not None:
            raise ModelQuarantined(reason, hint=f"`arasul-supervisor quarantine lift {name}` lifts that.")
        if self._reset.is_running:
            raise AlreadyRunning("A session reset is under way already; wait for its end.")
        return Reply(await self._reset.run(lambda: self._unload_and_load(name)))

    async def close(self) -> None:
        """The daemon ends: so does a reset under way."""
        await self._reset.close()

    async def _unload_and_load(self, name: str) -> ResetView:
        await self._require_installed(name)
        ended, unloaded = await self._unload_all()
        began_mono = self._clock.mono()
        try:
            await self._load(name)
        except ModelNotFound:
            raise _not_installed(name) from None
        finally:
            self._access.models_changed()
        return ResetView(
            message=f"Session reset, reloaded {name}",
            model=name,
            # one whose sick runner was ended may be listed all the same, until Ollama notices
            unloaded_models=tuple(dict.fromkeys((*ended, *(model.name for model in unloaded.unloaded)))),
            freed_mb=in_mib(unloaded.freed_bytes) or 0.0,
            load_s=round(self._clock.mono() - began_mono, 3),
        )

    async def _require_installed(self, name: str) -> None:
        self._access.catalogue.invalidate()
        view = await self._access.catalogue.models(timeout_s=LIST_S)
        if not any(same_model(model.name, name) for model in view.models):
            raise _not_installed(name)

    async def _unload_all(self) -> tuple[tuple[str, ...], Unloaded]:
        """The models that went with their sick runners, and what was unloaded then."""
        self._access.asked.stop_restoring(WISH)
        ended = await self._access.asked.end_sick_runners(WISH)
        unloaded = await self._access.residency.unload_all(bound_s=UNLOAD_S, is_forced=False)
        if unloaded.still_loaded:
            raise ModelBusy(
                f"The session was not reset. {still_loaded_sentence(unloaded)}",
                hint='POST /api/cache/clear {"force": true} ends it.',
            )
        return ended, unloaded

    async def _load(self, name: str) -> LoadedModel:
        """The model, seen loaded; a load without progress for 300 s, or that healing ends, is given up."""
        ended: list[str] = []
        asked = asyncio.ensure_future(self._access.residency.load(name, options=self._load_options()))
        load = asyncio.ensure_future(
            carry_load(asked, model=name, mark=self._progress.mark, clock=self._clock)
        )

        def end(why: str) -> None:
            ended.append(why)
            load.cancel()

        try:
            with self._own_loads.under_way(name, end):
                await asyncio.wait({load})
            if ended and load.cancelled():
                raise EngineSilent(
                    f"The load of {name} was ended: {ended[0]}.", hint="GET /api/incidents says more."
                )
            return load.result()
        finally:
            await end_task(load)
            await end_task(asked)  # where the other was ended before it had begun


def _not_installed(name: str) -> ModelNotInstalled:
    return ModelNotInstalled(
        f"{name} is not installed.",
        hint=f"Pull it first: arasul-supervisor pull {name}",
        fields={"model": name},
    )
