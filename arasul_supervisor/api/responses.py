"""From values to HTTP: the one place that turns an answer or an error into a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.api.answers import Line, LineStream, Reply

JSON: Final = "application/json; charset=utf-8"
JSON_HEADERS: Final = CIMultiDict({"Content-Type": JSON})
NO_HEADERS: Final[Mapping[str, str]] = {}
NDJSON: Final = "application/x-ndjson"


def error_body(error: ArasulError) -> Mapping[str, object]:
    """The body of every error; `error` is a string because existing callers print it."""
    return {
        **error.fields,
        "status": "error",
        "error": error.sentence,
        "message": error.sentence,
        "code": error.code,
    }


def reply_response(reply: Reply, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """A whole answer, with headers that concern the connection and not the answer."""
    content = reply.content
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    response = web.Response(body=body, status=reply.status, headers=JSON_HEADERS)
    if reply.headers or headers:
        response.headers.update({**reply.headers, **headers})
    return response


def error_response(error: ArasulError) -> web.Response:
    """An error, with its truthful status."""
    body = msgspec.json.encode(error_body(error))
    response = web.Response(body=body, status=error.status, headers=error.headers)
    response.headers["Content-Type"] = JSON
    return response


def unexpected_error() -> ArasulError:
    """What a client hears of a fault of ours: nothing of its inside."""
    return ArasulError("Something failed inside arasul-supervisor.", hint="Its own log has the traceback.")


async def stream_lines(
    request: web.BaseRequest,
    stream: LineStream,
    *,
    headers: Mapping[str, str],
    report: Callable[[Exception], None],
) -> web.StreamResponse:
    """Send the lines as they come; a slow reader slows the source. A failure on the way is the last line.

    :raises ConnectionError: the client has gone
    """
    response = web.StreamResponse(headers={**headers, "Content-Type": NDJSON})
    await response.prepare(request)
    try:
        async for line in stream.lines:
            await response.write(_as_line(line))
    except ConnectionError:
        raise
    except ArasulError as error:
        await response.write(_as_line(error_body(error)))
    except Exception as error:
        report(error)
        await response.write(_as_line(error_body(unexpected_error())))
    finally:
        await stream.lines.aclose()
    await response.write_eof()
    return response


def _as_line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"
