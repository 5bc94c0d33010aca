"""The table of our own endpoints: one row makes the dispatch, the `405` with `Allow`, and the OpenAPI entry."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from arasul_supervisor.api.answers import Answer
from arasul_supervisor.errors import EngineSilent, MethodNotAllowed, UnknownPath

if TYPE_CHECKING:
    from arasul_supervisor.errors import ArasulError

T = TypeVar("T")

OWN_PREFIXES: Final = tuple(
    f"/api/{name}"
    for name in ("models", "cache", "session", "gpu", "stats", "info", "process", "logs", "incidents")
)
STATE_CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may know of the request: the parts of its path, its query and its body, all validated."""

    path: Mapping[str, str]
    query: object = None
    body: object = None

    def body_as(self, kind: type[T]) -> T:
        """The body as the type that the route declares."""
        return _typed(self.body, kind)

    def query_as(self, kind: type[T]) -> T:
        """The query as the type that the route declares."""
        return _typed(self.query, kind)


Handler = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    A handler that returns its answer at once is answered from memory and cannot hang; one that returns an
    awaitable is bounded by `bound_s` (None: it bounds itself, or streams) and answered by `late()` past it.
    `answers` maps each status of success to the type or the JSON schema of its body; `errors` lists what else
    may come, beside what every endpoint may say. `body_rule` is JSON Schema beyond what the type of the body tells.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Any]  # a type that msgspec knows, or a JSON schema as a mapping
    bound_s: float | None = None
    late: Callable[[], ArasulError] = EngineSilent
    query: type | None = None
    body: type | None = None
    body_rule: Mapping[str, object] | None = None
    errors: tuple[type[ArasulError], ...] = ()
    streams: bool = False
    notes: str = ""

    @property
    def takes_body(self) -> bool:
        """True where a body is read at all."""
        return self.method in STATE_CHANGING


@dataclass(frozen=True, slots=True)
class Match:
    """A route with the parts that its path took from the request."""

    route: Route
    path: Mapping[str, str] = field(default_factory=dict)


class RouteTable:
    """Finds the route of a raw path. Paths are compared as they came: nothing is cleaned, joined or decoded."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed: dict[str, dict[str, Match]] = {}
        self._shaped: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for route in self.routes:
            self._add(route)

    def find(self, method: str, path: str) -> Match | None:
        """The route for a request, or None where the path is not ours.

        :raises MethodNotAllowed: the path is ours, the method is not
        :raises UnknownPath: nothing is there, but the prefix is ours
        """
        by_method = self._at(path)
        if by_method is None:
            if is_own_prefix(path):
                raise UnknownPath()
            return None
        match = by_method.get(method)
        if match is None and method == "HEAD":
            match = by_method.get("GET")
        if match is None:
            raise MethodNotAllowed(
                f"{method} is not possible at {path[:200]}.",
                hint=f"Use {allowed_methods(by_method)}.",
                headers={"Allow": allowed_methods(by_method)},
            )
        return match

    def methods_at(self, path: str) -> str | None:
        """The value of an `Allow` header, or None where we have nothing."""
        by_method = self._at(path)
        return None if by_method is None else allowed_methods(by_method)

    def _at(self, path: str) -> Mapping[str, Match] | None:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        for shape, by_method in self._shaped:
            found = shape.fullmatch(path)
            if found:
                parts = {name: unquote(part) for name, part in found.groupdict().items()}
                return {method: Match(route, parts) for method, route in by_method.items()}
        return None

    def _add(self, route: Route) -> None:
        if "{" not in route.path:
            methods = self._fixed.setdefault(route.path, {})
            if route.method in methods:
                raise ValueError(f"{route.method} {route.path} stands in the table twice")
            methods[route.method] = Match(route)
            return
        shape = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route.path)))
        for known, by_method in self._shaped:
            if known == shape:
                by_method[route.method] = route
                return
        self._shaped.append((shape, {route.method: route}))


def is_own_prefix(path: str) -> bool:
    """True for the paths below `/api/` that are ours and never reach the engine."""
    return any(path == prefix or path.startswith(prefix + "/") for prefix in OWN_PREFIXES)


def is_engine_path(path: str) -> bool:
    """True for the paths that belong to Ollama's own API."""
    return path.startswith(("/api/", "/v1/")) and not is_own_prefix(path)


def allowed_methods(methods: Iterable[str]) -> str:
    """The methods as `Allow` lists them; HEAD stands wherever GET does."""
    known = set(methods)
    return ", ".join(sorted(known | ({"HEAD"} if "GET" in known else set())))


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"the route declares no {kind.__name__}, the handler asks for one")
    return value
