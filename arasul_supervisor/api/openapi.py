"""The OpenAPI 3.1 document, made from the table of routes; written out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from arasul_supervisor import __version__
from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    BodyTooLarge,
    ForbiddenHost,
    ForbiddenOrigin,
    MethodNotAllowed,
    SlowRequest,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arasul_supervisor.api.routes import Call

Schema = dict[str, Any]  # Any: JSON

TITLE: Final = "arasul-supervisor"
ABOUT: Final = (
    "Owns the Ollama engine on this box. Every other path below `/api/` and `/v1/` is Ollama's own API and is "
    "passed through to it as it comes. `POST /api/generate` without a model and with `keep_alive` 0 unloads all models."
)
REF: Final = "#/components/schemas/{name}"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
OF_ANY: Final = (ForbiddenHost, MethodNotAllowed)
OF_BODY: Final = (BadInput, ForbiddenOrigin, SlowRequest, BodyTooLarge, UnsupportedMediaType)
FREE_FORM: Final[Schema] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class ErrorView:
    """The body of every error; `error` and `message` are the same sentence, `code` is for machines."""

    status: str
    error: str
    message: str
    code: str


class OpenApi:
    """`/openapi.json`, about all the other routes and itself."""

    def __init__(self, routes: Sequence[Route]) -> None:
        own = Route("GET", "/openapi.json", self.document, "This document", {200: FREE_FORM})
        self._own = own
        self._reply = Reply(msgspec.json.encode(openapi_document((*routes, own))))

    def routes(self) -> tuple[Route, ...]:
        """The one endpoint."""
        return (self._own,)

    def document(self, call: Call) -> Reply:
        """The document."""
        return self._reply


def openapi_document(routes: Sequence[Route]) -> Schema:
    """The whole document. Pure."""
    components = _components(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": components},
    }


def _components(routes: Iterable[Route]) -> Schema:
    types: dict[type, None] = {ErrorView: None}
    for route in routes:
        declared = (*route.answers.values(), route.query, route.body)
        types.update({kind: None for kind in declared if isinstance(kind, type)})
    return msgspec.json.schema_components(types, ref_template=REF)[1]


def _operation(route: Route, components: Schema) -> Schema:
    operation: Schema = {
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route, components)],
        "responses": {
            **{str(status): _answer(route, content) for status, content in route.answers.items()},
            **_errors(route),
        },
    }
    if route.notes:
        operation["description"] = route.notes
    if route.takes_body:
        schema = FREE_FORM if route.body is None else _reference(route.body)
        if route.body_rule is not None:
            schema = {"allOf": [schema, route.body_rule]}
        operation["requestBody"] = {
            "required": route.body_rule is not None,
            "content": {JSON: {"schema": schema}},
        }
    return operation


def _path_parameters(route: Route) -> list[Schema]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _query_parameters(route: Route, components: Schema) -> list[Schema]:
    if route.query is None:
        return []
    fields = components[route.query.__name__]["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "allowEmptyValue": True,
            "schema": _without_null(field),
        }
        for name, field in fields.items()
    ]


def _without_null(field: Schema) -> Schema:
    """A query holds no null: a field that may be null may be absent."""
    kept = {key: value for key, value in field.items() if key != "default" or value is not None}
    if isinstance(kept.get("type"), list):
        kept["type"] = next(word for word in kept["type"] if word != "null")
    if "enum" in kept:
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    if "anyOf" in kept:
        first = next(kind for kind in kept.pop("anyOf") if kind != {"type": "null"})
        return {**kept, **first}
    return kept


def _answer(route: Route, content: type | Schema) -> Schema:
    schema = dict(content) if isinstance(content, Mapping) else _reference(content)
    answer: Schema = {"description": route.summary, "content": {JSON: {"schema": schema}}}
    if route.streams:
        answer["content"][NDJSON] = {"schema": {"type": "string"}}
    return answer


def _errors(route: Route) -> Schema:
    """One entry per status; its text tells the codes that may stand under it."""
    kinds: list[type[ArasulError]] = [*OF_ANY, *route.errors, ArasulError]
    if route.takes_body:
        kinds += OF_BODY
    if route.query is not None:
        kinds.append(BadInput)
    if route.bound_s is not None:
        kinds.append(type(route.late()))
    sentences: dict[int, dict[str, str]] = {}
    for kind in kinds:
        by_code = sentences.setdefault(kind.status, {})
        by_code[kind.code] = (kind.__doc__ or "").partition("\n")[0]
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {text}" for code, text in by_code.items()),
            "content": {JSON: {"schema": _reference(ErrorView)}},
        }
        for status, by_code in sorted(sentences.items())
        if status not in route.answers
    }


def _reference(kind: type) -> Schema:
    return {"$ref": REF.format(name=kind.__name__)}
