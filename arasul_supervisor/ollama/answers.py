"""Ollama's JSON, checked and turned into our values; whatever has another shape is refused in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from arasul_supervisor.ollama.models import InstalledModel, LoadedModel
from arasul_supervisor.ollama.refusals import NOT_AS_EXPECTED, garbled

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Details(msgspec.Struct):
    parent_model: str | None = None
    format: str | None = None
    family: str | None = None
    families: tuple[str, ...] | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None


class _Tag(msgspec.Struct):
    name: Name
    size: Bytes
    digest: str
    modified_at: str = ""
    details: _Details | None = None
    capabilities: tuple[str, ...] | None = None
    remote_model: str | None = None
    remote_host: str | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag]


class _Running(msgspec.Struct):
    name: Name
    size: Bytes
    digest: str
    size_vram: Bytes = 0
    expires_at: str = ""
    context_length: int | None = None


class _Ps(msgspec.Struct):
    models: list[_Running]


_TAGS: Final = msgspec.json.Decoder(_Tags)
_PS: Final = msgspec.json.Decoder(_Ps)
_OBJECT: Final = msgspec.json.Decoder(dict[str, object])


def installed_models(body: bytes) -> list[InstalledModel]:
    """The models of an answer to `/api/tags`.

    :raises EngineRefused: when the answer has another shape
    """
    return [_installed(tag) for tag in _checked(_TAGS.decode, body, "list the models").models]


def loaded_models(body: bytes) -> list[LoadedModel]:
    """The models of an answer to `/api/ps`.

    :raises EngineRefused: when the answer has another shape
    """
    return [_loaded(running) for running in _checked(_PS.decode, body, "list the loaded models").models]


def json_object(body: bytes, *, purpose: str) -> dict[str, object]:
    """Any JSON object.

    :raises EngineRefused: when the answer is none
    """
    return _checked(_OBJECT.decode, body, purpose)


def _checked(decode: Callable[[bytes], T], body: bytes, purpose: str) -> T:
    try:
        return decode(body)
    except NOT_AS_EXPECTED as error:
        raise garbled(purpose, str(error)) from None


def _installed(tag: _Tag) -> InstalledModel:
    details = tag.details or _Details()
    return InstalledModel(
        name=tag.name,
        size_bytes=tag.size,
        modified_at=tag.modified_at,
        digest=_with_algorithm(tag.digest),
        format=details.format or None,
        family=details.family or None,
        parameter_size=details.parameter_size or None,
        quantization=details.quantization_level or None,
        families=details.families or None,
        capabilities=tag.capabilities or None,
        context_length=details.context_length or None,
        embedding_length=details.embedding_length or None,
        remote_model=tag.remote_model or None,
        remote_host=tag.remote_host or None,
        parent=details.parent_model or None,
    )


def _loaded(running: _Running) -> LoadedModel:
    return LoadedModel(
        name=running.name,
        size_bytes=running.size,
        size_vram_bytes=running.size_vram,
        context_length=running.context_length,
        expires_at=running.expires_at,
        digest=_with_algorithm(running.digest),
    )


def _with_algorithm(digest: str) -> str:
    """`sha256:<hex>`; Ollama lists the bare hex."""
    return digest if not digest or ":" in digest else f"sha256:{digest}"
