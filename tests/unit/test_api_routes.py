"""CONTRACT §4: one table makes dispatch, 405 with `Allow`, 404 under our prefixes, and the OpenAPI document."""

from __future__ import annotations

import json

import pytest

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.logs import LogQuery
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.openapi import openapi_document
from arasul_supervisor.api.routes import Call, Route, RouteTable, is_engine_path
from arasul_supervisor.api.unload_wish import is_unload_wish
from arasul_supervisor.errors import MethodNotAllowed, UnknownPath


def nothing(call: Call) -> Reply:
    return Reply({})


def route(method: str, path: str) -> Route:
    return Route(method, path, nothing, "Nothing", {200: {"type": "object"}})


TABLE = RouteTable(
    (
        route("GET", "/health"),
        route("GET", "/api/models/pulls/{id}"),
        route("DELETE", "/api/models/pulls/{id}"),
        route("POST", "/api/models/pull"),
    )
)


def test_a_part_of_a_path_is_given_to_the_handler_decoded() -> None:
    match = TABLE.find("DELETE", "/api/models/pulls/a%20b")

    assert match is not None
    assert (match.route.method, match.path) == ("DELETE", {"id": "a b"})


def test_head_is_answered_wherever_get_is() -> None:
    match = TABLE.find("HEAD", "/health")

    assert match is not None
    assert match.route.method == "GET"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/api/models/pulls/x", "DELETE, GET, HEAD"),
        ("GET", "/api/models/pull", "POST"),
        ("BREW", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        TABLE.find(method, path)

    assert refused.value.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    ["/api/models/nope", "/api/incidents", "/api/models/../tags", "/api/models//", "/api/models/pulls/a/b"],
)
def test_what_is_not_there_under_our_prefixes_is_unknown_and_never_passes(path: str) -> None:
    assert not is_engine_path(path)
    with pytest.raises(UnknownPath):
        TABLE.find("GET", path)


@pytest.mark.parametrize(
    "path",
    ["/api/tags", "/api/", "/v1/models", "/api/modelsx", "/api//models", "/api/x/../models", "/api/%6dodels"],
)
def test_all_else_below_api_and_v1_is_the_engines(path: str) -> None:
    assert is_engine_path(path)
    assert TABLE.find("GET", path) is None


@pytest.mark.parametrize("path", ["/", "/api", "/v1", "", "//api/tags", "/health/", "/HEALTH", "/metrics"])
def test_the_rest_is_nobodys(path: str) -> None:
    assert not is_engine_path(path)
    assert TABLE.find("GET", path) is None


def test_an_endpoint_that_stands_in_the_table_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        RouteTable((route("GET", "/health"), route("GET", "/health")))


def test_the_document_describes_queries_bodies_answers_and_errors() -> None:
    delete = Route(
        "DELETE",
        "/api/models/delete",
        nothing,
        "Remove",
        {200: NamedModel},
        bound_s=1.0,
        query=LogQuery,
        body=NamedModel,
    )

    document = openapi_document((delete,))

    operation = json.loads(json.dumps(document))["paths"]["/api/models/delete"]["delete"]
    assert {"200", "400", "403", "405", "408", "413", "415", "500", "504"} == set(operation["responses"])
    assert [p["name"] for p in operation["parameters"]] == [
        "lines",
        "level",
        "outcome",
        "generation",
        "since",
    ]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/NamedModel")
    assert "null" not in json.dumps(operation["parameters"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"keep_alive":0}',
        b'{"model":"","keep_alive":0}',
        b'{"model":null,"keep_alive":0.0,"prompt":""}',
        b'{"keep_alive":"0"}',
        b'{"keep_alive":"0s","stream":false}',
    ],
)
def test_a_generate_without_a_model_and_with_keep_alive_0_means_unload_everything(body: bytes) -> None:
    assert is_unload_wish(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"0",
        b'{"keep_alive":0',
        b'{"model":"x","keep_alive":0}',
        b'{"keep_alive":0,"prompt":"hi"}',
        b'{"keep_alive":false}',
        b'{"keep_alive":null}',
        b'{"keep_alive":5}',
        b'{"keep_alive":"5m"}',
        b'{"keep_alive":-1}',
        b"\xff",
        b"[" * 4096,
    ],
)
def test_any_other_generate_is_the_engines(body: bytes) -> None:
    assert not is_unload_wish(body)
