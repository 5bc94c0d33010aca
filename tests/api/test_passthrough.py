"""CONTRACT §4, "every other /api/* and /v1/*": passed through as it comes, streamed both ways, aborts passed on."""

from __future__ import annotations

import asyncio
import gzip
import resource
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp.client_proto import ResponseHandler

from arasul_supervisor.api.passthrough import CHUNKED_READ_BYTES
from arasul_supervisor.supervision.snapshot import State
from tests.api.raw import ask, connection, eventually
from tests.api.stubs import api_under_test

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.engine.fake import FakeEngine

MIB = 1024 * 1024
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"


class Upstream:
    """An engine of one test: takes a request's head, then does what the test says."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.is_gone = asyncio.Event()

    @property
    def lines(self) -> list[bytes]:
        """The lines of the last head."""
        return self.heads[-1].split(b"\r\n")


@asynccontextmanager
async def upstream_that(
    act: Callable[[Upstream, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[int, Upstream]]:
    """An engine on a port of its own."""
    upstream = Upstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await act(upstream, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            upstream.is_gone.set()
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], upstream
    finally:
        listener.close()
        await listener.wait_closed()


async def say_hello(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    await writer.drain()


async def read_all(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a body of the length that the head names, then says hello."""
    head = upstream.lines
    length = next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
    upstream.bodies.append(await reader.readexactly(length))
    await say_hello(upstream, reader, writer)


@pytest.mark.parametrize(
    "target",
    [
        "/api/tags",
        "/api/tags?",
        "/api/x?a=b%20c&d=%zz&&",
        "/api/../health",
        "/api/./x//y",
        "/api//models",
        "/api/%2e%2e/%2fhealth",
        "/api/%6dodels",
        "/v1/models?x=1?y=2",
        "/api/a;b,c:d@e!$'()*+~",
        '/v1/{x}|y^`"<>',
    ],
)
async def test_path_and_query_arrive_byte_for_byte(target: str) -> None:
    async with upstream_that(say_hello) as (port, upstream), api_under_test(port) as api:
        answer = await ask(api.port, "GET", target)

        assert answer.body == b"hi"
        assert upstream.lines[0] == f"GET {target} HTTP/1.1".encode()


async def test_the_host_becomes_the_engines_and_only_headers_of_the_connection_are_dropped() -> None:
    headers = (
        "X-One: 1\r\nX-Two: a\r\nX-Two: b\r\nAccept-Encoding: br\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        "TE: trailers\r\nUpgrade: h2c\r\nAuthorization: Bearer t\r\nOrigin: http://a.example\r\n"
    )
    async with upstream_that(say_hello) as (port, upstream), api_under_test(port) as api:
        await ask(api.port, "GET", "/api/tags", headers=headers)

        names = {line.partition(b":")[0].lower() for line in upstream.lines[1:] if line}
        assert names - {b"connection"} == {
            b"host",
            b"x-one",
            b"x-two",
            b"accept-encoding",
            b"authorization",
            b"origin",
        }
        assert f"Host: 127.0.0.1:{port}".encode() in upstream.lines
        assert [line for line in upstream.lines if line.startswith(b"X-Two")] == [b"X-Two: a", b"X-Two: b"]


async def test_status_reason_headers_and_body_of_the_engine_come_back() -> None:
    async def teapot(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 418 Short And Stout\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 3\r\n\r\npot")

    async with upstream_that(teapot) as (port, _), api_under_test(port) as api:
        answer = await ask(api.port, "PUT", "/api/coffee")

        assert answer.head.startswith(b"HTTP/1.1 418 Short And Stout\r\n")
        assert answer.head.count(b"X-A: ") == 2
        assert answer.header("Server") is None
        assert answer.body == b"pot"


async def test_headers_that_are_no_utf_8_break_nothing() -> None:
    async def latin(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nX-B: caf\xc3\xa9\r\nContent-Length: 0\r\n\r\n")

    async with upstream_that(latin) as (port, upstream), api_under_test(port) as api:
        answer = await ask(api.port, "GET", "/api/x", headers="X-C: caf\xe9\r\n")

        assert (answer.status, answer.header("X-A"), answer.header("X-B")) == (200, "café", "café")
        assert "X-C: café".encode() in upstream.lines


async def test_a_compressed_answer_stays_compressed() -> None:
    packed = gzip.compress(b"hello" * 100)

    async def packs(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed))
        writer.write(packed)

    async with upstream_that(packs) as (port, _), api_under_test(port) as api:
        answer = await ask(api.port, "GET", "/api/x")

        assert answer.header("Content-Encoding") == "gzip"
        assert answer.body == packed


async def test_a_compressed_body_arrives_compressed() -> None:
    packed = gzip.compress(b"hello" * 100)
    async with upstream_that(read_all) as (port, upstream), api_under_test(port) as api:
        await ask(api.port, "POST", "/api/x", packed, headers="Content-Encoding: gzip\r\n")

        assert upstream.bodies == [packed]


async def test_a_redirect_is_not_followed() -> None:
    async def redirects(
        upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n")

    async with upstream_that(redirects) as (port, upstream), api_under_test(port) as api:
        answer = await ask(api.port, "GET", "/api/x")

        assert (answer.status, answer.header("Location")) == (302, "http://127.0.0.1:9/x")
        assert len(upstream.heads) == 1


async def test_head_passes_with_the_length_and_without_a_body() -> None:
    async def heads(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n")

    async with (
        upstream_that(heads) as (port, upstream),
        api_under_test(port) as api,
        connection(api.port) as client,
    ):
        await client.send(b"HEAD /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await client.answer(has_body=False)

        assert answer.header("Content-Length") == "123"
        assert upstream.lines[0] == b"HEAD /api/version HTTP/1.1"


async def test_an_answer_that_comes_in_pieces_is_passed_on_in_pieces() -> None:
    go_on = asyncio.Event()

    async def drips(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with upstream_that(drips) as (port, _), api_under_test(port) as api, connection(api.port) as client:
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        first = await client.reader.readuntil(b"one\r\n")
        go_on.set()
        rest = await client.reader.readuntil(b"0\r\n\r\n")

        assert first == b"3\r\none\r\n"
        assert rest == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_a_chunked_body_is_passed_on_as_it_comes() -> None:
    got_first = asyncio.Event()

    async def takes(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.bodies.append(await reader.readuntil(b"one\r\n"))
        got_first.set()
        upstream.bodies.append(await reader.readuntil(b"0\r\n\r\n"))
        await say_hello(upstream, reader, writer)

    async with (
        upstream_that(takes) as (port, upstream),
        api_under_test(port) as api,
        connection(api.port) as client,
    ):
        await client.send(
            b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        )
        await got_first.wait()
        await client.send(b"3\r\ntwo\r\n0\r\n\r\n")

        assert (await client.answer()).body == b"hi"
        assert b"Transfer-Encoding: chunked" in upstream.lines
        assert upstream.bodies == [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


async def test_a_client_that_expects_100_is_told_to_go_on_when_the_engine_is_there() -> None:
    async with upstream_that(read_all) as (port, upstream), api_under_test(port) as api:
        async with connection(api.port) as client:
            await client.send(
                b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await client.answer()).status == 100
            await client.send(b"abc")
            answer = await client.answer()

        assert (answer.status, answer.body) == (200, b"hi")
        assert upstream.bodies == [b"abc"]
        assert b"expect" not in upstream.heads[0].lower()


async def test_large_bodies_pass_both_ways_in_flat_memory() -> None:
    size = 256 * MIB
    piece = b"\0" * MIB

    async def echoes(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            chunk = await reader.read(MIB)
            left -= len(chunk)
            writer.write(chunk)
            await writer.drain()

    async with (
        upstream_that(echoes) as (port, _),
        api_under_test(port) as api,
        connection(api.port) as client,
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await client.send(b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        upload = asyncio.create_task(_send_pieces(client.writer, piece, size // MIB))
        await client.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await client.reader.read(MIB))
        await upload

        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 32 * 1024


async def _send_pieces(writer: asyncio.StreamWriter, piece: bytes, count: int) -> None:
    for _ in range(count):
        writer.write(piece)
        await writer.drain()


async def test_a_slow_reader_slows_the_engine() -> None:
    sent = 0

    async def pours(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"\0" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    async with upstream_that(pours) as (port, upstream), api_under_test(port) as api:
        async with connection(api.port) as client:
            await client.send(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
            former = -1
            while sent != former:  # until nothing moves for a while
                former = sent
                await asyncio.sleep(0.3)

        assert sent < 32 * MIB
        await asyncio.wait_for(upstream.is_gone.wait(), 1.0)


async def test_of_a_fast_stream_of_small_lines_only_so_much_is_taken_in_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took: list[int] = []
    take = ResponseHandler.data_received

    def noting(protocol: ResponseHandler, data: bytes) -> None:
        took.append(len(data))
        take(protocol, data)

    monkeypatch.setattr(ResponseHandler, "data_received", noting)
    go_on = asyncio.Event()

    async def pours(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await go_on.wait()
        writer.write(b"5\r\nline\n\r\n" * 100_000 + b"0\r\n\r\n")

    async with upstream_that(pours) as (port, _), api_under_test(port) as api, connection(api.port) as client:
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        go_on.set()
        everything = await client.rest()

        assert everything.count(b"l") == 100_000  # which is no digit of a chunk's size
        assert max(took) <= CHUNKED_READ_BYTES


@pytest.mark.parametrize("has_head", [True, False], ids=["in the answer", "before the answer"])
async def test_a_client_that_leaves_ends_the_request_upstream_at_once(has_head: bool) -> None:
    async def waits(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if has_head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await reader.read()

    async with upstream_that(waits) as (port, upstream), api_under_test(port) as api:
        async with connection(api.port) as client:
            await client.send(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await eventually(lambda: bool(upstream.heads))
        left_at = asyncio.get_running_loop().time()
        await asyncio.wait_for(upstream.is_gone.wait(), 1.0)

        assert asyncio.get_running_loop().time() - left_at < 0.5


async def test_an_answer_that_breaks_off_breaks_off_for_the_client() -> None:
    async def breaks(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")

    async with (
        upstream_that(breaks) as (port, _),
        api_under_test(port) as api,
        connection(api.port) as client,
    ):
        await client.send(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        everything = await client.rest()

        assert everything.endswith(b"3\r\none\r\n")  # and no closing chunk
        assert api.log.events == []


@pytest.mark.parametrize(
    ("garbage", "status", "code"),
    [
        (b"", 503, "engine_down"),
        (b"hello\r\n\r\n", 502, "engine_refused"),
        (b"HTTP/1.1 xyz\r\n\r\n", 502, "engine_refused"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, "engine_refused"),
    ],
)
async def test_an_engine_that_answers_garbage_is_told_as_such(garbage: bytes, status: int, code: str) -> None:
    async def says(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)

    async with upstream_that(says) as (port, _), api_under_test(port) as api:
        answer = await ask(api.port, "GET", "/api/x")

        assert (answer.status, answer.json()["code"]) == (status, code)
        assert api.log.events == []


async def test_no_request_is_sent_twice() -> None:
    async def hangs_up(
        upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        return

    async with upstream_that(hangs_up) as (port, upstream), api_under_test(port) as api:
        await ask(api.port, "GET", "/api/x")
        await ask(api.port, "POST", "/api/x", b"{}")

        assert len(upstream.heads) == 2


@pytest.mark.parametrize("state", [s for s in State if s is not State.RUNNING])
async def test_while_the_engine_is_not_up_the_answer_is_503_and_nothing_is_asked(state: State) -> None:
    async with upstream_that(say_hello) as (port, upstream), api_under_test(port) as api:
        api.engine.become(state=state)
        answer = await ask(api.port, "POST", "/api/chat", b"{}")

        assert (answer.status, answer.json()["code"]) == (503, "engine_down")
        assert int(answer.header("Retry-After") or 0) > 0
        assert upstream.heads == []


async def test_an_engine_that_is_gone_is_503(free_port: int) -> None:
    async with api_under_test(free_port) as api:
        answer = await ask(api.port, "GET", "/v1/models")

        assert (answer.status, answer.json()["code"]) == (503, "engine_down")


async def test_a_hundred_long_answers_hinder_nobody() -> None:
    async def waits(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if upstream.lines[0].startswith(b"GET /api/tags"):
            body = b'{"models":[]}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await reader.read()

    async with upstream_that(waits) as (port, upstream), api_under_test(port) as api:
        waiting = [
            asyncio.create_task(ask(api.port, "POST", "/api/chat", b"{}", limit_s=60)) for _ in range(150)
        ]
        await eventually(lambda: sum(head.startswith(b"POST") for head in upstream.heads) == 150)
        health, models = await ask(api.port, "GET", "/health"), await ask(api.port, "GET", "/api/models")
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

        assert (health.status, models.status) == (200, 200)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"tiny","keep_alive":0}',
        b'{"keep_alive":0,"prompt":"x"}',
        b"no json \xff at all",
        b'{"keep_alive":0,"a":"' + b"x" * 5000 + b'"}',
    ],
    ids=["a model", "a prompt", "no JSON", "large"],
)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["by length", "by chunks"])
async def test_a_generate_that_means_something_else_arrives_byte_for_byte(
    body: bytes, is_chunked: bool
) -> None:
    async def takes(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_chunked:
            received = b""
            while size := int(await reader.readline(), 16):
                received += (await reader.readexactly(size + 2))[:-2]
            upstream.bodies.append(received)
            await say_hello(upstream, reader, writer)
            return
        await read_all(upstream, reader, writer)

    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    async with (
        upstream_that(takes) as (port, upstream),
        api_under_test(port) as api,
        connection(api.port) as client,
    ):
        await client.send(
            b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n" + sent
        )

        assert (await client.answer()).body == b"hi"
        assert upstream.bodies == [body]


async def test_unload_everything_in_ollamas_own_spelling(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        loaded = await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        answer = await ask(api.port, "POST", "/api/generate", b'{"model":"","keep_alive":0}')
        left = await ask(api.port, "GET", "/api/models/loaded")

        assert loaded.status == 200
        assert answer.json()["done"] is True
        assert answer.json()["done_reason"] == "unload"
        assert left.json() == {"loaded_models": [], "count": 0}


async def test_unload_everything_from_a_foreign_page_is_left_to_the_engine(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    async with api_under_test(engine_port) as api:
        await ask(
            api.port, "POST", "/api/generate", b'{"keep_alive":0}', headers="Origin: https://evil.example\r\n"
        )

        last = await asyncio.to_thread(lambda: fake_engine.requests()[-1])
        assert last["target"] == "/api/generate"
