"""The ways in which the fake engine spoils an answer; the table at the end names them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.fake_http import Connection, Request
    from tests.engine.fake_modes import Mode

    Well = Callable[[Connection, Request], None]


def _freeze(_mode: Mode, connection: Connection, _request: Request, _well: Well) -> bool:
    connection.wait_until_gone()
    return True


def _delay(mode: Mode, _connection: Connection, _request: Request, _well: Well) -> bool:
    time.sleep(mode.number("s", 1))
    return False


def _error(mode: Mode, connection: Connection, request: Request, _well: Well) -> bool:
    connection.answer_json(request, {"error": mode.text("text", "boom")}, int(mode.number("status", 500)))
    return True


def _html(mode: Mode, connection: Connection, request: Request, _well: Well) -> bool:
    connection.answer(
        request, int(mode.number("status", 500)), b"<html><h1>Bad gateway</h1></html>", "text/html"
    )
    return True


def _canned(body: bytes) -> Callable[[Mode, Connection, Request, Well], bool]:
    def answer(_mode: Mode, connection: Connection, request: Request, _well: Well) -> bool:
        connection.answer(request, 200, body)
        return True

    return answer


def _rewritten(
    change: Callable[[Mode, Connection, bytes], None],
) -> Callable[[Mode, Connection, Request, Well], bool]:
    """Lets the right answer be made, and gives its bytes to `change` instead of the client."""

    def answer(mode: Mode, connection: Connection, request: Request, well: Well) -> bool:
        parts: list[bytes] = []
        send = connection.send
        connection.send = parts.append  # type: ignore[method-assign, assignment]  # the one place that looks over its shoulder
        try:
            well(connection, request)
        finally:
            connection.send = send  # type: ignore[method-assign]  # and gives it back
        change(mode, connection, b"".join(parts))
        return True

    return answer


def _slowly(mode: Mode, connection: Connection, data: bytes) -> None:
    head, gap, body = data.partition(b"\r\n\r\n")
    connection.send(head + gap)
    for n in range(len(body)):
        connection.send(body[n : n + 1])
        time.sleep(mode.number("s", 0.5))


def _half(_mode: Mode, connection: Connection, data: bytes) -> None:
    head, gap, body = data.partition(b"\r\n\r\n")
    connection.send(head + gap + body[: len(body) // 2])
    connection.close()


def _close(_mode: Mode, connection: Connection, _request: Request, _well: Well) -> bool:
    connection.close()
    return True


def _garbage(_mode: Mode, connection: Connection, _request: Request, _well: Well) -> bool:
    connection.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    connection.close()
    return True


def _huge(mode: Mode, connection: Connection, request: Request, _well: Well) -> bool:
    connection.answer(
        request, 200, b'{"models":[],"filler":"' + b"x" * int(mode.number("mb", 8) * 1e6) + b'"}'
    )
    return True


def _die(mode: Mode, _connection: Connection, _request: Request, _well: Well) -> NoReturn:
    number = int(mode.number("signal", 0))
    if number:
        os.kill(os.getpid(), signal.Signals(number))
        time.sleep(1)
    os._exit(int(mode.number("code", 2)))


SPOILERS: dict[str, Callable[[Mode, Connection, Request, Well], bool]] = {
    "freeze": _freeze,
    "delay": _delay,
    "error": _error,
    "html": _html,
    "broken_json": _canned(b'{"models": [{"name": "ti'),
    "wrong_json": _canned(b'[1, "x", null]'),
    "empty": _canned(b""),
    "slowloris": _rewritten(_slowly),
    "close": _close,
    "close_mid": _rewritten(_half),
    "garbage": _garbage,
    "huge": _huge,
    "die": _die,
}
