"""From bytes to values: the body rule and the query rule of every endpoint of ours."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from arasul_supervisor.bounded import within
from arasul_supervisor.errors import BadInput, BodyTooLarge, SlowRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_BYTES: Final = 1024 * 1024
BODY_S: Final = 30.0
MAX_QUERY_FIELDS: Final = 100
UTF_8: Final = frozenset({"utf-8", "utf8"})
AT_FIELD: Final = re.compile(r" - at `(?P<path>[^`]*)`$")


async def read_json(request: web.BaseRequest, kind: type | None) -> object:
    """The body as a value of the given type; nothing at all counts as `{}`.

    The declared type is not looked at (a plain `curl -d` declares a form), except that multipart, another
    charset and a compressed body are refused.

    :param kind: the type that the route declares; None where it takes no fields: then any object will do
    """
    declared = request.headers.get("Content-Type", "")
    if declared.lower().lstrip().startswith("multipart/") or _charset(declared) not in UTF_8:
        raise UnsupportedMediaType(f"The body is declared as {declared[:100]!r}.", hint="Send JSON in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body is compressed.", hint="Send it as it is: JSON in UTF-8.")
    body = await read_body(request)
    return decode_object(body or b"{}", kind)


async def read_body(request: web.BaseRequest) -> bytes:
    """All bytes of the body, at most 1 MiB, within 30 s."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise BodyTooLarge()
    return await read_at_most(request, MAX_BODY_BYTES, is_all_wanted=True)


async def read_at_most(request: web.BaseRequest, limit_bytes: int, *, is_all_wanted: bool) -> bytes:
    """The first bytes of the body: all of it, or a little over the limit when there is more.

    :param is_all_wanted: a longer body is an error, not a beginning
    """
    if not request.can_read_body:
        return b""
    await continue_if_expected(request)
    try:
        return await within(_collect(request, limit_bytes, is_all_wanted=is_all_wanted), BODY_S)
    except asyncio.TimeoutError:
        raise SlowRequest() from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadInput(
            "The body is not well-formed HTTP.", hint="Check Content-Length and chunk sizes."
        ) from error


async def continue_if_expected(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (`Expect: 100-continue`)."""
    expects = request.headers.get("Expect", "").lower() == "100-continue"
    if expects and request.version >= (1, 1) and not request.content.total_bytes:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def decode_object(body: bytes, kind: type | None) -> object:
    """The JSON object in these bytes.

    :raises BadInput: it is none, or a field has the wrong type; the sentence names the field
    """
    try:
        body.decode("utf-8")  # msgspec skips unknown fields unread, wrong bytes in them included
        return msgspec.json.decode(body, type=kind or dict)
    except UnicodeDecodeError as error:
        raise BadInput(f"The body is not UTF-8 (byte {error.start}).", hint="Send JSON in UTF-8.") from error
    except RecursionError:
        raise BadInput("The body is nested too deeply.", hint="Send a flat JSON object.") from None
    except msgspec.ValidationError as error:
        raise _wrong_field(error, where="body") from error
    except msgspec.DecodeError as error:
        raise BadInput(
            f"The body is not JSON: {error}.", hint='Send an object such as {"model": "…"}.'
        ) from error


def decode_query(text: str, kind: type | None) -> object:
    """The query as a value of the given type. Unknown names are ignored; an empty value counts as not given."""
    if kind is None:
        return None
    try:
        pairs = parse_qsl(text, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise BadInput(f"The query cannot be read: {error}.") from error
    known: Mapping[str, object] = kind.__annotations__
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise BadInput(
                f"{name!r} stands in the query twice.", hint="Give it once.", fields={"field": name}
            )
        if name in known and value.lower() == "null":
            raise BadInput(f"{name!r} in the query is null.", hint="Leave it out.", fields={"field": name})
        if name in known:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong_field(error, where="query") from error


def _charset(declared: str) -> str:
    found = re.search(r";\s*charset\s*=\s*\"?([^\s;\"]*)", declared, re.IGNORECASE)
    return found[1].lower() if found else "utf-8"


async def _collect(request: web.BaseRequest, limit_bytes: int, *, is_all_wanted: bool) -> bytes:
    body = bytearray()
    while len(body) <= limit_bytes:
        chunk = await request.content.readany()
        if not chunk:
            return bytes(body)
        body += chunk
    if is_all_wanted:
        raise BodyTooLarge()
    return bytes(body)


def _wrong_field(error: msgspec.ValidationError, *, where: str) -> BadInput:
    text = str(error)
    found = AT_FIELD.search(text)
    expected, has_form, _ = (text[: found.start()] if found else text).partition(" matching regex ")
    if has_form:
        expected += " of the form that GET /openapi.json shows"
    field = found["path"].removeprefix("$.") if found else ""
    if not field:
        return BadInput(f"The {where} must be a JSON object: {expected}.")
    return BadInput(f"{field!r} in the {where} is wrong: {expected}.", fields={"field": field})
