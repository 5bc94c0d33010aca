"""CONTRACT §4, the body rule and the query rule: what is taken for an object, and which sentence refuses the rest."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arasul_supervisor.api.logs import LogQuery, _since
from arasul_supervisor.api.model_fields import NamedModel
from arasul_supervisor.api.process import WaitQuery
from arasul_supervisor.api.pulls import PullBody
from arasul_supervisor.api.requests import decode_object, decode_query
from arasul_supervisor.errors import BadInput


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", id="a list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b'"x"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b" ", id="only a blank"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": Infinity}', id="Infinity"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b"model=x", id="a form"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b'{"a": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"a": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="deep lists"),
        pytest.param(b'{"a":' * 100_000, id="deep objects"),
    ],
)
@pytest.mark.parametrize("kind", [None, PullBody], ids=["no fields", "fields"])
def test_what_is_no_json_object_is_bad_input(body: bytes, kind: type | None) -> None:
    with pytest.raises(BadInput) as refused:
        decode_object(body, kind)

    assert refused.value.sentence


def test_unknown_fields_are_ignored() -> None:
    body = decode_object(b'{"model": "a", "colour": "blue", "deep": {"er": [1]}}', PullBody)

    assert body == PullBody(model="a")


def test_of_two_equal_keys_the_last_one_counts() -> None:
    assert decode_object(b'{"stream": true, "stream": false}', PullBody) == PullBody(stream=False)


@pytest.mark.parametrize("value", [b'"false"', b"0", b"null", b"[]", b"{}"])
def test_a_field_of_a_wrong_type_is_named(value: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        decode_object(b'{"stream": ' + value + b"}", PullBody)

    assert "'stream'" in refused.value.sentence
    assert refused.value.fields == {"field": "stream"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(NamedModel(), "model parameter required", id="missing"),
        pytest.param(NamedModel(model="", name=""), "model parameter required", id="empty"),
        pytest.param(NamedModel(model="x" * 256), "too long", id="too long"),
        pytest.param(NamedModel(model="a b"), "Invalid model name format", id="a blank in it"),
        pytest.param(NamedModel(model=7), "Invalid model name format", id="a number"),
        pytest.param(NamedModel(model=["a"]), "Invalid model name format", id="a list"),
        pytest.param(NamedModel(model={}), "Invalid model name format", id="an object"),
    ],
)
def test_a_bad_model_name_is_refused_with_the_text_of_the_contract(body: NamedModel, text: str) -> None:
    with pytest.raises(BadInput) as refused:
        body.checked_name()

    assert text in refused.value.sentence


def test_the_model_may_be_called_name() -> None:
    assert NamedModel(name="tiny").checked_name() == "tiny"
    assert NamedModel(model="a", name="b").checked_name() == "a"


def test_an_empty_value_in_a_query_counts_as_not_given() -> None:
    query = decode_query("lines=5&level=&outcome=&generation=&since=", LogQuery)

    assert query == LogQuery(lines=5)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("lines=0", "lines"),
        ("lines=5001", "lines"),
        ("lines=-1", "lines"),
        ("lines=ten", "lines"),
        ("lines=1_0", "lines"),
        ("lines=%D9%A1", "lines"),
        ("lines=1&lines=2", "lines"),
        ("level=loud", "level"),
        ("level=WARNING", "level"),
        ("outcome=" + "a" * 65, "outcome"),
        ("generation=x", "generation"),
        ("since=yesterday", "since"),
        ("since=2026-11-23", "since"),
    ],
)
def test_a_wrong_value_in_a_query_is_named(query: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        decode_query(query, LogQuery)

    assert refused.value.fields == {"field": field}


@pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("true", True), ("1", True)])
def test_a_yes_or_no_in_a_query_is_read_in_the_usual_spellings(text: str, value: bool) -> None:
    assert decode_query(f"wait={text}", WaitQuery) == WaitQuery(wait=value)


@pytest.mark.parametrize("query", ["%ff=1", "lines=%ff", "&".join("abc")])
def test_a_query_that_cannot_be_read_is_bad_input_or_nothing(query: str) -> None:
    try:
        decoded = decode_query(query, LogQuery)
    except BadInput:
        return
    assert decoded == LogQuery()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14t22:13:20.5z", 1_700_000_000.5),
        ("2023-11-14 23:13:20.123456789+01:00", 1_700_000_000.123456789),
    ],
)
def test_since_is_a_number_of_a_line_or_an_instant(text: str, value: float) -> None:
    since = _since(text)

    assert since == pytest.approx(value)
    assert type(since) is type(value)


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z"])
def test_a_day_that_does_not_exist_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        _since(text)


@given(st.binary(max_size=300))
@example(b'{"model":"\\u0000"}')
def test_any_bytes_are_an_object_or_bad_input(body: bytes) -> None:
    try:
        decoded = decode_object(body, PullBody)
    except BadInput:
        return
    assert isinstance(decoded, PullBody)


@given(st.text(max_size=200))
@example("since=9999-12-31T23:59:59+00:00")
def test_any_query_is_read_or_bad_input(query: str) -> None:
    try:
        decoded = decode_query(query, LogQuery)
    except BadInput:
        return
    assert isinstance(decoded, LogQuery)
