"""Guards CONTRACT §4: each way in which the engine can fail a call has its own truthful error, within the bound."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown, EngineRefused, EngineSilent, ModelNotFound
from arasul_supervisor.ollama import transport
from arasul_supervisor.ollama.client import OllamaClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TAGS = b'{"models":[{"name":"tiny:latest","size":1,"digest":"ab"}]}'


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[OllamaClient]:
    client = OllamaClient(url, SystemClock())
    try:
        yield client
    finally:
        await client.close()


class RawServer:
    """Says the given bytes on each connection, the last ones again and again; None closes at once."""

    def __init__(self, *answers: bytes | None, then_hangs: bool = False) -> None:
        self._answers = list(answers)
        self._hangs = then_hangs
        self.n_connections = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self._answers[min(self.n_connections, len(self._answers) - 1)]
        self.n_connections += 1
        try:
            if answer is not None:
                await reader.readuntil(b"\r\n\r\n")
                self.asked.set()
                writer.write(answer)
                await writer.drain()
            if self._hangs:
                while await reader.read(65536):
                    pass
                self.gone.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()


def http(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


def refusing_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_a_refused_connection_is_an_engine_that_is_down() -> None:
    async with client_of(f"http://127.0.0.1:{refusing_port()}") as client:
        with pytest.raises(EngineDown, match="nothing listens") as caught:
            await client.tags(timeout_s=0.3)

    assert caught.value.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    "garbage",
    [
        http(b"<html>"),
        http(b"", status="204 No Content"),
        http(b"", status="302 Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=["HTML", "no content", "redirect", "no HTTP", "bad length", "no gzip", "long header"],
)
async def test_an_answer_that_is_not_ollamas_is_a_refusal(garbage: bytes) -> None:
    async with RawServer(garbage).run() as url, client_of(url) as client:
        with pytest.raises(EngineRefused):
            await client.ps(timeout_s=3)


async def test_a_body_that_breaks_off_is_an_engine_that_went_down() -> None:
    async with RawServer(http(TAGS[:10], length=500)).run() as url, client_of(url) as client:
        with pytest.raises(EngineDown, match="closed the connection"):
            await client.show("tiny", timeout_s=2)


async def test_an_endless_answer_is_cut_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
    async with RawServer(http(b"x" * 5000)).run() as url, client_of(url) as client:
        with pytest.raises(EngineRefused, match="longer than 1000 bytes"):
            await client.tags(timeout_s=2)


async def test_silence_is_told_within_the_bound_and_the_connection_is_closed() -> None:
    server = RawServer(b"", then_hangs=True)
    async with server.run() as url, client_of(url) as client:
        began = time.monotonic()
        with pytest.raises(EngineSilent, match=r"did not answer within 0.2 s"):
            await client.ps(timeout_s=0.2)

        assert time.monotonic() - began < 1.2
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_a_cancelled_call_closes_its_connection() -> None:
    server = RawServer(b"", then_hangs=True)
    async with server.run() as url, client_of(url) as client:
        task = asyncio.create_task(client.load("tiny", keep_alive_s=5, options={}))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.wait_for(server.gone.wait(), 5)


async def test_a_list_survives_connections_that_die() -> None:
    server = RawServer(None, None, http(TAGS))
    async with server.run() as url, client_of(url) as client:
        models = await client.tags(timeout_s=3)

    assert [model.name for model in models] == ["tiny:latest"]
    assert server.n_connections == 3


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.delete("a", timeout_s=2),
        lambda client: client.copy("a", "b", timeout_s=2),
        lambda client: client.load("a", keep_alive_s=1, options={}),
        lambda client: client.show("a", timeout_s=2),
    ],
    ids=["delete", "copy", "load", "show"],
)
async def test_what_must_not_be_repeated_is_sent_once(
    call: Callable[[OllamaClient], Awaitable[object]],
) -> None:
    server = RawServer(None)
    async with server.run() as url, client_of(url) as client:
        with pytest.raises(EngineDown):
            await call(client)

    assert server.n_connections == 1


@pytest.mark.parametrize("status", ["500 A", "502 B", "503 C", "504 D"])
async def test_an_unload_is_asked_again_while_ollama_is_in_trouble(status: str) -> None:
    server = RawServer(http(b'{"error":"boom"}', status=status), http(b'{"done":true}'))
    async with server.run() as url, client_of(url) as client:
        await client.unload("tiny", timeout_s=2)

    assert server.n_connections == 2


async def test_a_refusal_after_all_retries_carries_ollamas_words() -> None:
    server = RawServer(http(b'{"error":"boom"}', status="500 Oh"))
    async with server.run() as url, client_of(url) as client:
        with pytest.raises(EngineRefused, match=r"\(status 500\): boom"):
            await client.tags(timeout_s=5)

    assert server.n_connections == 4


async def test_an_unknown_model_is_told_at_once() -> None:
    server = RawServer(http(b'{"error":"model \'zz\' not found"}', status="404 Not Found"))
    async with server.run() as url, client_of(url) as client:
        with pytest.raises(ModelNotFound, match="'zz' not found"):
            await client.unload("zz", timeout_s=2)

    assert server.n_connections == 1


async def test_a_model_for_embeddings_is_loaded_by_its_own_path() -> None:
    refusal = http(b'{"error":"\\"e\\" does not support generate"}', status="400 Bad Request")
    server = RawServer(refusal, http(b'{"embeddings":[]}'))
    async with server.run() as url, client_of(url) as client:
        await client.load("e", keep_alive_s=300, options={})

    assert server.n_connections == 2


async def test_a_pull_that_ends_without_success_is_no_success() -> None:
    lines = b'{"status":"pulling manifest"}\n{"status":"verifying sha256 digest"}\n'
    async with RawServer(http(lines)).run() as url, client_of(url) as client:
        with pytest.raises(EngineRefused, match="without saying that it succeeded"):
            async for _ in client.pull("tiny", insecure=False):
                pass


async def test_a_pull_whose_connection_breaks_is_an_engine_that_went_down() -> None:
    lines = b'{"status":"pulling manifest"}\n'
    async with RawServer(http(lines, length=500)).run() as url, client_of(url) as client:
        with pytest.raises(EngineDown):
            async for _ in client.pull("tiny", insecure=False):
                pass


@pytest.mark.parametrize(
    "lines",
    [b"<html>\n", b"[]\n", b"{}\n", b'{"status":1}\n', b"x" * 70_000],
    ids=lambda lines: str(lines[:9]),
)
async def test_garbage_in_a_pull_is_a_refusal(lines: bytes) -> None:
    async with RawServer(http(lines, length=100_000), then_hangs=True).run() as url, client_of(url) as client:
        with pytest.raises(EngineRefused):
            async for _ in client.pull("tiny", insecure=False):
                pass
