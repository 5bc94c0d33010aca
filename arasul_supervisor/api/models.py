"""`/api/models`: what is installed, what is loaded, and the removal of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import (
    BadInput,
    EngineDown,
    EngineRefused,
    EngineSilent,
    ModelBusy,
    ModelNotFound,
)
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import InstalledModel, LoadedModel
    from arasul_supervisor.ollama.pulls.jobs import PullJobs

LIST_BOUND_S: Final = 3.0
DELETE_BOUND_S: Final = 15.0
UNLOAD_S: Final = 6.0
ASK_S: Final = 3.0
MARGIN_S: Final = 0.1
ENGINE_ERRORS: Final = (EngineRefused, EngineDown, EngineSilent)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One installed model; `size` in bytes."""

    name: str
    size: int
    modified_at: str
    digest: str
    format: str | None
    family: str | None
    parameter_size: str | None
    quantization: str | None


@dataclass(frozen=True, slots=True)
class ModelsView:
    """The body of `GET /api/models`."""

    models: tuple[ModelView, ...]
    count: int
    cached: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class LoadedView:
    """One loaded model; sizes in bytes, `gpu_percent` is the part of it that lies on the GPU."""

    name: str
    size: int
    size_vram: int
    gpu_percent: float | None
    context_length: int | None
    expires_at: str


@dataclass(frozen=True, slots=True)
class LoadedModelsView:
    """The body of `GET /api/models/loaded`."""

    loaded_models: tuple[LoadedView, ...]
    count: int


@dataclass(frozen=True, slots=True)
class DeletedView:
    """The body of `DELETE /api/models/delete`; `freed_bytes` is 0 where another name still has the same weights."""

    message: str
    freed_bytes: int
    status: str = "success"


class Models:
    """Reads ask the engine at most once for all who ask; the removal looks that the model is gone."""

    def __init__(self, access: EngineAccess, pulls: PullJobs, client: OllamaClient) -> None:
        self._access = access
        self._pulls = pulls
        self._client = client

    def routes(self) -> tuple[Route, ...]:
        """Two lists and a removal."""
        return (
            Route(
                "GET",
                "/api/models",
                self.installed,
                "The installed models, at most 30 s old",
                {200: ModelsView},
                bound_s=LIST_BOUND_S,
                errors=ENGINE_ERRORS,
            ),
            Route(
                "GET",
                "/api/models/loaded",
                self.loaded,
                "The models in memory",
                {200: LoadedModelsView},
                bound_s=LIST_BOUND_S,
                errors=ENGINE_ERRORS,
            ),
            Route(
                "DELETE",
                "/api/models/delete",
                self.delete,
                "Unload a model and remove it",
                {200: DeletedView},
                bound_s=DELETE_BOUND_S,
                query=NamedModel,
                body=NamedModel,
                errors=(ModelNotFound, ModelBusy, *ENGINE_ERRORS),
            ),
        )

    async def installed(self, call: Call) -> Reply:
        """What is installed."""
        self._access.require_up()
        view = await self._access.catalogue.models(timeout_s=LIST_BOUND_S - MARGIN_S)
        models = tuple(_model_view(model) for model in view.models)
        return Reply(ModelsView(models, len(models), view.is_cached, round(view.age_s, 3)))

    async def loaded(self, call: Call) -> Reply:
        """What is in memory."""
        self._access.require_up()
        loaded = await self._access.residency.loaded(timeout_s=LIST_BOUND_S - MARGIN_S)
        views = tuple(_loaded_view(model) for model in loaded)
        return Reply(LoadedModelsView(views, len(views)))

    async def delete(self, call: Call) -> Reply:
        """Unload, remove, and look that it is gone. A loaded model that is removed could never be unloaded."""
        given = [named for named in (call.body_as(NamedModel), call.query_as(NamedModel)) if named.is_given]
        names = [named.checked_name() for named in given or [NamedModel()]]
        name = names[0]
        if any(not same_model(name, other) for other in names):
            raise BadInput(f"The body names {name}, the query {names[1]}.", hint="Name one model.")
        self._access.require_up()
        if self._pulls.is_pulling(name):
            raise ModelBusy(
                f"{name} is being pulled.", hint="Cancel that pull first: DELETE /api/models/pulls/{id}."
            )
        before = await self._fresh()
        model = _find(before, name)
        if model is None:
            raise ModelNotFound(f"{name} is not installed.", hint="GET /api/models lists what is.")
        await self._unload(model)
        await self._client.delete(model.name, timeout_s=ASK_S)
        after = await self._fresh()
        self._access.models_changed()
        if _find(after, name) is not None:
            raise EngineRefused(f"Ollama says that it removed {model.name}, and still lists it.")
        heirs = [other.name for other in after if other.digest == model.digest]
        if heirs:
            return Reply(DeletedView(f"Removed {model.name}; {', '.join(heirs)} keeps the same weights.", 0))
        return Reply(DeletedView(f"Removed {model.name}.", model.size_bytes))

    async def _unload(self, model: InstalledModel) -> None:
        if not await self._access.residency.unload(model.name, bound_s=UNLOAD_S):
            raise ModelBusy(
                f"{model.name} is still answering a request.",
                hint='Try again when it is done, or end it: POST /api/cache/clear {"force": true}.',
            )

    async def _fresh(self) -> Sequence[InstalledModel]:
        self._access.catalogue.invalidate()
        return (await self._access.catalogue.models(timeout_s=ASK_S)).models


def _find(models: Sequence[InstalledModel], name: str) -> InstalledModel | None:
    return next((model for model in models if same_model(model.name, name)), None)


def _model_view(model: InstalledModel) -> ModelView:
    return ModelView(
        name=model.name,
        size=model.size_bytes,
        modified_at=model.modified_at,
        digest=model.digest,
        format=model.format,
        family=model.family,
        parameter_size=model.parameter_size,
        quantization=model.quantization,
    )


def _loaded_view(model: LoadedModel) -> LoadedView:
    return LoadedView(
        name=model.name,
        size=model.size_bytes,
        size_vram=model.size_vram_bytes,
        gpu_percent=model.gpu_percent,
        context_length=model.context_length,
        expires_at=model.expires_at,
    )
