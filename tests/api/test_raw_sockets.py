"""CONTRACT §4, first paragraph: JSON everywhere, also for what is no HTTP; no banner; 408; nothing hangs or crashes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.api import requests, server
from tests.api.raw import ask, connection, eventually
from tests.api.stubs import api_under_test

if TYPE_CHECKING:
    import random

    from tests.api.raw import RawAnswer

NO_ENGINE = 1
GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def assert_is_our_error(answer: RawAnswer, status: int) -> None:
    assert answer.status == status
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("Server") is None
    body = answer.json()
    assert body["status"] == "error"
    assert body["error"] == body["message"]
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"]


MALFORMED = {
    "words": b"hello there\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "blank in a header name": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "two lengths": (
        b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    ),
    "length and chunks": (
        b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "negative length": b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "length no number": b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "bad chunk size": (
        b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "huge header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "huge target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the target": b"GET /api/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "relative target": b"GET health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "broken absolute target": b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "other scheme": b"GET ftp://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_http_gets_a_400_in_our_shape(data: bytes) -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(data)
        answer = await client.answer()

        assert_is_our_error(answer, 400)
        assert api.log.events == []
        assert (await ask(api.port, "GET", "/livez")).status == 200


async def test_a_flood_of_headers_breaks_nothing() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5_000 + b"\r\n")

        assert (await client.answer()).status in (200, 400)  # aiohttp limits their number since 3.13


async def test_half_a_head_gets_a_408_and_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"GET /health HTTP/1.1\r\nHost: loc")
        answer = await client.answer()

        assert_is_our_error(answer, 408)
        assert await client.rest() == b""


async def test_half_a_head_after_an_answered_request_gets_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(GET_LIVEZ)
        assert (await client.answer()).status == 200
        await client.send(b"GET /health HT")

        assert_is_our_error(await client.answer(), 408)


async def test_an_idle_connection_stays_open_beyond_the_limit_of_a_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(GET_LIVEZ)
        await client.answer()
        await asyncio.sleep(0.3)  # three times the limit
        await client.send(GET_LIVEZ)

        assert (await client.answer()).status == 200


async def test_a_connection_without_a_byte_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        assert_is_our_error(await client.answer(), 408)


async def test_half_a_body_gets_a_408_and_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_S", 0.2)
    monkeypatch.setattr(server, "LINGER_S", 0.1)
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        answer = await client.answer()

        assert_is_our_error(answer, 408)
        assert answer.header("Connection") == "close"
        assert await client.rest() == b""


async def test_a_body_over_1_mib_gets_a_413() -> None:
    body = b'{"a":"' + b"a" * 2 * 1024 * 1024 + b'"}'
    async with api_under_test(NO_ENGINE) as api:
        assert_is_our_error(await ask(api.port, "POST", "/api/cache/clear", body), 413)


async def test_a_chunked_body_over_1_mib_gets_a_413() -> None:
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(
            b"POST /api/cache/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await client.send(chunk * 17)

        assert_is_our_error(await client.answer(), 413)


async def test_a_body_of_1_mib_is_read() -> None:
    body = b'{"a":"' + b"a" * (1024 * 1024 - 8) + b'"}'
    async with api_under_test(NO_ENGINE) as api:
        api.engine.become(state="stopped")  # so that the answer does not need an engine
        assert len(body) == 1024 * 1024
        assert_is_our_error(await ask(api.port, "POST", "/api/cache/clear", body), 503)


async def test_a_client_that_expects_100_is_told_to_go_on() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(
            b"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.answer()).status == 100
        await client.send(b"{}")

        assert_is_our_error(await client.answer(), 400)
        await client.send(GET_LIVEZ)
        assert (await client.answer()).status == 200


async def test_a_client_that_expects_100_for_too_much_is_refused_before_it_sends() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(
            b"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )

        assert_is_our_error(await client.answer(), 413)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Type: multipart/form-data; boundary=x\r\n", 415),
        ("Content-Type: application/json; charset=latin-1\r\n", 415),
        ("Content-Encoding: gzip\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 400),
        ("Content-Type: text/plain; charset=UTF-8\r\n", 400),
        ('Content-Type: application/json; charset="utf-8"\r\n', 400),
        ("", 400),
    ],
)
async def test_the_declared_type_matters_only_for_multipart_charset_and_compression(
    headers: str, status: int
) -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "POST", "/api/models/pull", b"{}", headers=headers)

        assert_is_our_error(answer, status)


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send((GET_LIVEZ + GET_LIVEZ.replace(b"/livez", b"/nope")) * 100)
        statuses = [(await client.answer()).status for _ in range(200)]

        assert statuses == [200, 404] * 100


async def test_an_absolute_target_is_understood_and_its_host_checked() -> None:
    async with api_under_test(NO_ENGINE) as api:
        assert (await ask(api.port, "GET", "http://127.0.0.1:11436/livez")).json() == {"status": "alive"}
        assert_is_our_error(await ask(api.port, "GET", "http://evil.example/livez"), 403)


async def test_a_foreign_host_is_forbidden_on_every_path() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"GET /api/tags HTTP/1.1\r\nHost: evil.example\r\n\r\n")

        assert_is_our_error(await client.answer(), 403)


async def test_http_1_0_is_answered_and_closed() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"GET /livez HTTP/1.0\r\n\r\n")
        everything = await client.rest()

        assert everything.startswith(b"HTTP/1.0 200 OK\r\n")
        assert everything.endswith(b'{"status":"alive"}')


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with api_under_test(NO_ENGINE) as api, connection(api.port) as client:
        await client.send(b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET_LIVEZ)
        head, get = await client.answer(has_body=False), await client.answer()

        assert head.header("Content-Length") == get.header("Content-Length") == str(len(get.body))


async def test_a_browser_may_ask_before_it_calls() -> None:
    asked = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
    async with api_under_test(NO_ENGINE, env={"ARASUL_ORIGINS": "https://ui.example"}) as api:
        admitted = await ask(
            api.port, "OPTIONS", "/api/cache/clear", headers=f"Origin: https://ui.example\r\n{asked}"
        )
        foreign = await ask(
            api.port, "OPTIONS", "/api/cache/clear", headers=f"Origin: https://evil.example\r\n{asked}"
        )

        assert admitted.status == 204
        assert admitted.header("Access-Control-Allow-Origin") == "https://ui.example"
        assert admitted.header("Access-Control-Allow-Methods") == "POST"
        assert_is_our_error(foreign, 403)


async def test_a_foreign_page_cannot_change_anything() -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(
            api.port, "POST", "/api/process/stop", b"", headers="Origin: https://evil.example\r\n"
        )

        assert_is_our_error(answer, 403)
        assert api.engine.asked == []


async def test_an_unforeseen_fault_is_a_500_that_tells_nothing_and_a_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with api_under_test(NO_ENGINE) as api:
        monkeypatch.setattr(api.engine_log, "lines", lambda *_, **__: 1 / 0)
        answer = await ask(api.port, "GET", "/api/logs")

        assert_is_our_error(answer, 500)
        assert answer.json()["code"] == "internal_error"
        assert b"Zero" not in answer.body
        assert isinstance(api.log.events[0][1]["exc_info"], ZeroDivisionError)


async def test_random_bytes_never_hang_or_crash_it(rng: random.Random) -> None:
    valid = b"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    async with api_under_test(NO_ENGINE) as api:
        for _ in range(200):
            data = bytearray(valid)
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            async with connection(api.port) as client:
                await client.send(bytes(data))
                client.writer.write_eof()
                await client.rest()

        assert (await ask(api.port, "GET", "/livez")).status == 200
        assert [event for event, _ in api.log.events if event == "request_failed_unexpectedly"] == []


async def test_clients_that_vanish_in_every_moment_leave_nothing_behind() -> None:
    request = b"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    async with api_under_test(NO_ENGINE) as api:
        before = len(os.listdir("/proc/self/fd"))
        for length in range(0, len(request) + 1, 7):
            async with connection(api.port) as client:
                await client.send(request[:length])
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)

        assert (await ask(api.port, "GET", "/livez")).status == 200
