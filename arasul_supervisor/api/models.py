"""`/api/models`: what is installed, what is loaded, and the removal of a model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.model_removal import ModelRemoval
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
    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.model_store.usage import DiskUsage
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.models import InstalledModel, LoadedModel
    from arasul_supervisor.ollama.pulls.jobs import PullJobs

LIST_BOUND_S: Final = 3.0
DELETE_BOUND_S: Final = 15.0
MARGIN_S: Final = 0.1
_MODELS_A_TURN: Final = 100
ENGINE_ERRORS: Final = (EngineRefused, EngineDown, EngineSilent)


@dataclass(frozen=True, slots=True)
class DiskBytesView:
    """Bytes on disk: of blobs that only this model has, and of those that others have too."""

    own: int
    shared: int


@dataclass(frozen=True, slots=True)
class ModelView:
    """One installed model; `size` in bytes.

    `format` is null and `remote_host` set of a model that runs in the cloud. `capabilities`, `context_length`: null
    where this Ollama does not tell them (up to 0.24). `disk_bytes`: null while the store cannot be read.
    """

    name: str
    size: int
    modified_at: str
    digest: str
    format: str | None
    family: str | None
    parameter_size: str | None
    quantization: str | None
    families: tuple[str, ...] | None
    capabilities: tuple[str, ...] | None
    context_length: int | None
    remote_host: str | None
    disk_bytes: DiskBytesView | None


@dataclass(frozen=True, slots=True)
class BrokenView:
    """A model that cannot be used, and why, with what to do."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelsView:
    """The body of `GET /api/models`. A `broken` model is among the `models` too, as far as Ollama still lists it."""

    models: tuple[ModelView, ...]
    count: int
    cached: bool
    age_s: float
    broken: tuple[BrokenView, ...]


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
    """The body of `DELETE /api/models/delete`; `freed_bytes` without what other models still have."""

    message: str
    freed_bytes: int
    status: str = "success"


class Models:
    """Reads ask the engine at most once for all who ask; the removal looks that the model is gone."""

    def __init__(self, access: EngineAccess, pulls: PullJobs, client: OllamaClient) -> None:
        self._access = access
        self._removal = ModelRemoval(access, pulls, client)

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
        models: list[ModelView] = []
        for model in view.models:
            models.append(_model_view(model, view.usage(model.name)))
            if len(models) % _MODELS_A_TURN == 0:
                await asyncio.sleep(0)  # a thousand models would hold the loop for 15 ms
        broken = tuple(BrokenView(one.name, one.reason) for one in view.broken)
        return Reply(ModelsView(tuple(models), len(models), view.is_cached, round(view.age_s, 3), broken))

    async def loaded(self, call: Call) -> Reply:
        """What is in memory."""
        self._access.require_up()
        loaded = await self._access.residency.loaded(timeout_s=LIST_BOUND_S - MARGIN_S)
        views = tuple(_loaded_view(model) for model in loaded)
        return Reply(LoadedModelsView(views, len(views)))

    async def delete(self, call: Call) -> Reply:
        """Unload, remove, and look that it is gone."""
        given = [named for named in (call.body_as(NamedModel), call.query_as(NamedModel)) if named.is_given]
        names = [named.checked_name() for named in given or [NamedModel()]]
        name = names[0]
        if any(not same_model(name, other) for other in names):
            raise BadInput(f"The body names {name}, the query {names[1]}.", hint="Name one model.")
        self._access.require_up()
        removed = await self._removal.remove(name)
        return Reply(DeletedView(removed.message, removed.freed_bytes))


def _model_view(model: InstalledModel, usage: DiskUsage | None) -> ModelView:
    return ModelView(
        name=model.name,
        size=model.size_bytes,
        modified_at=model.modified_at,
        digest=model.digest,
        format=model.format,
        family=model.family,
        parameter_size=model.parameter_size,
        quantization=model.quantization,
        families=model.families,
        capabilities=model.capabilities,
        context_length=model.context_length,
        remote_host=model.remote_host,
        disk_bytes=DiskBytesView(usage.own_bytes, usage.shared_bytes) if usage else None,
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
