"""Guards our own look at a registry: it tells what is there, believes no stranger, and never takes long."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from arasul_supervisor import __version__
from arasul_supervisor.model_store.manifests import parse_manifest
from arasul_supervisor.ollama.pulls.registry import (
    MAX_MANIFEST_BYTES,
    NoManifest,
    Registry,
    RegistryAsksToWait,
)
from tests.api.stubs import StubLog
from tests.engine.registry_looks import PROGRAM, looks
from tests.engine.store import layers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.engine.registry import Registry as FakeRegistry

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MANIFEST = layers_of(b"a model").manifest
LOOK_WITHOUT_TLS = """
import sys
from arasul_supervisor.held_back import hold_back
hold_back()
import asyncio
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.ollama.pulls.registry import Registry
look = Registry(SystemClock(), None, own=id, disown=id)
print(asyncio.run(look.manifest(sys.argv[1], is_insecure=False)), sys.modules["ssl"])
"""
HEADERS = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@dataclass(slots=True)
class Server:
    """A registry of one answer, and what it was asked."""

    answer: Handler
    port: int = 0
    asked: list[web.BaseRequest] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/library/tiny:v1"


@asynccontextmanager
async def serving(answer: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(answer)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        server.asked.append(request)
        return await server.answer(request)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def say_manifest(request: web.BaseRequest) -> web.Response:
    return web.Response(body=MANIFEST)


def redirect_to(url: str) -> Handler:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": url})

    return answer


def say(body: bytes) -> Handler:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    return answer


@asynccontextmanager
async def looking(*, timeout_s: float = 10.0) -> AsyncIterator[Registry]:
    log = StubLog()
    look = looks(log, timeout_s=timeout_s)
    try:
        yield look
    finally:
        await look.close()
    assert log.events == []  # no child failed


@pytest.fixture(autouse=True)
def no_proxy_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate for 127.0.0.1 that signs itself: as the server shows it, and where who believes it finds it."""

    server: ssl.SSLContext
    certificate: Path


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return Identity(server, certificate)


@pytest.fixture
def believed(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """One whom this box believes, as a company's own authority is made known to it, and to Go's programs."""
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.certificate))
    return identity


async def test_what_the_registry_has_is_told(registry: FakeRegistry) -> None:
    name = registry.put_bytes("tiny", b"a model")
    async with looking() as look:
        found = await look.manifest(name, is_insecure=True)

    assert found == parse_manifest(MANIFEST)


async def test_the_look_says_who_asks_and_for_what() -> None:
    async with serving(say_manifest) as server, looking() as look:
        await look.manifest(server.name, is_insecure=True)

    [request] = server.asked
    assert (request.method, request.path) == ("GET", "/v2/library/tiny/manifests/v1")
    assert request.headers["Accept"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert request.headers["User-Agent"] == f"arasul-supervisor/{__version__}"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_registry_that_refuses_leaves_it_to_ollama(registry: FakeRegistry, status: int) -> None:
    registry.switches.manifest_status = status
    async with looking() as look:
        assert await look.manifest(registry.name("tiny"), is_insecure=True) is None


@pytest.mark.parametrize("status", [429, 503])
async def test_a_registry_that_asks_to_wait_is_heard(registry: FakeRegistry, status: int) -> None:
    registry.switches.manifest_status = status
    registry.switches.retry_after = "30"
    async with looking() as look:
        with pytest.raises(RegistryAsksToWait) as told:
            await look.manifest(registry.name("tiny"), is_insecure=True)

    assert told.value.wait_s == 30.0
    assert told.value.sentence == f"The registry {registry.address} answers {status} and asks to wait 30 s."


async def test_a_retry_after_with_another_status_is_not_heard(registry: FakeRegistry) -> None:
    registry.switches.manifest_status = 500
    registry.switches.retry_after = "30"
    async with looking() as look:
        assert await look.manifest(registry.name("tiny"), is_insecure=True) is None


async def test_a_server_with_a_certificate_that_is_believed_is_asked(believed: Identity) -> None:
    async with serving(say_manifest, believed.server) as server, looking() as look:
        assert await look.manifest(server.name, is_insecure=False) == parse_manifest(MANIFEST)


async def test_who_has_no_tls_of_his_own_is_told_too(believed: Identity) -> None:
    async with serving(say_manifest, believed.server) as server:
        command = [sys.executable, "-c", LOOK_WITHOUT_TLS, server.name]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=True, timeout=15
        )

    assert done.stdout.strip() == f"{parse_manifest(MANIFEST)} None"


async def test_a_server_with_a_certificate_that_nobody_signed_is_asked_nothing(identity: Identity) -> None:
    async with serving(say_manifest, identity.server) as server, looking() as look:
        found = await look.manifest(server.name, is_insecure=False)

    assert (found, server.asked) == (None, [])


async def test_a_server_of_plain_http_is_asked_nothing_unless_insecure() -> None:
    async with serving(say_manifest) as server, looking() as look:
        found = await look.manifest(f"http://{server.name}", is_insecure=False)

    assert (found, server.asked) == (None, [])


async def test_a_redirect_from_https_to_https_is_followed(believed: Identity) -> None:
    async with serving(say_manifest, believed.server) as target:
        elsewhere = redirect_to(f"https://127.0.0.1:{target.port}/elsewhere")
        async with serving(elsewhere, believed.server) as server, looking() as look:
            found = await look.manifest(server.name, is_insecure=False)

    assert found == parse_manifest(MANIFEST)
    assert [request.path for request in target.asked] == ["/elsewhere"]


async def test_a_redirect_from_https_to_plain_http_is_refused(believed: Identity) -> None:
    async with serving(say_manifest) as target:
        elsewhere = redirect_to(f"http://127.0.0.1:{target.port}/elsewhere")
        async with serving(elsewhere, believed.server) as server, looking() as look:
            found = await look.manifest(server.name, is_insecure=False)

    assert (found, target.asked) == (None, [])
    assert len(server.asked) == 1


async def test_a_redirect_within_plain_http_is_followed_when_insecure() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/elsewhere":
            return await say_manifest(request)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with serving(answer) as server, looking() as look:
        assert await look.manifest(server.name, is_insecure=True) == parse_manifest(MANIFEST)


@pytest.mark.parametrize("location", ["/again", "http://[", "ftp://127.0.0.1/", ""])
async def test_a_redirect_that_leads_nowhere_is_left_to_ollama(location: str) -> None:
    async with serving(redirect_to(location)) as server, looking() as look:
        found = await look.manifest(server.name, is_insecure=True)

    assert found is None
    assert len(server.asked) <= 6


async def test_cookies_are_not_kept() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=MANIFEST, headers={"Set-Cookie": "who=me; Path=/"})

    async with serving(answer) as server, looking() as look:
        await look.manifest(server.name, is_insecure=True)
        await look.manifest(server.name, is_insecure=True)

    assert ["Cookie" in request.headers for request in server.asked] == [False, False]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[" * 100_000, b'{"layers":7}', b'{"layers":[{"digest":"../../x","size":1}]}', b"\xff"],
    ids=["empty", "no JSON", "deep", "no layers", "bad digest", "no text"],
)
async def test_a_manifest_that_is_none_is_left_to_ollama(body: bytes) -> None:
    async with serving(say(body)) as server, looking() as look:
        assert await look.manifest(server.name, is_insecure=True) is None


async def test_a_manifest_longer_than_any_is_kept_from_ollama() -> None:
    padded = MANIFEST + b" " * (MAX_MANIFEST_BYTES + 1 - len(MANIFEST))
    async with serving(say(padded)) as server, looking() as look:
        with pytest.raises(NoManifest, match="longer than 8388608 bytes"):
            await look.manifest(server.name, is_insecure=True)


@asynccontextmanager
async def talking(text: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """A server that says this to everyone and closes, or hangs; the name of a model in it."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        if hangs:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/library/tiny"
    finally:
        over.set()
        server.close()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEADERS.encode() + b"{", id="less than announced"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a wrong chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", id="an endless header"),
    ],
)
async def test_an_answer_that_is_no_http_is_left_to_ollama(text: bytes) -> None:
    async with talking(text) as name, looking() as look:
        assert await look.manifest(name, is_insecure=True) is None


@pytest.mark.parametrize("text", [b"", HEADERS.encode()], ids=["nothing", "only headers"])
async def test_a_server_that_falls_silent_is_left_after_the_bound(text: bytes) -> None:
    async with talking(text, hangs=True) as name, looking(timeout_s=2.0) as look:
        begun = time.monotonic()
        found = await look.manifest(name, is_insecure=True)
        took_s = time.monotonic() - begun

    assert found is None
    assert 2.0 <= took_s < 4


async def test_a_port_where_nothing_listens_is_left_to_ollama(free_port: int) -> None:
    async with looking() as look:
        assert await look.manifest(f"127.0.0.1:{free_port}/library/tiny", is_insecure=True) is None


@pytest.mark.parametrize("host", ["127.0.0.1:99999", "a_b..c"])
async def test_a_host_that_cannot_be_is_left_to_ollama(host: str) -> None:
    async with looking() as look:
        assert await look.manifest(f"{host}/library/tiny", is_insecure=True) is None


async def test_a_host_is_found_by_its_name(registry: FakeRegistry) -> None:
    registry.put_bytes("tiny", b"a model")
    name = registry.name("tiny").replace("127.0.0.1", "localhost")
    async with looking() as look:
        assert await look.manifest(name, is_insecure=True) == parse_manifest(MANIFEST)


@pytest.mark.parametrize(
    "name_server",
    [
        pytest.param(
            "raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')", id="knows nothing"
        ),
        pytest.param("time.sleep(60)", id="is silent"),
    ],
)
async def test_a_name_server_that_does_not_help_holds_neither_the_look_nor_the_end(
    name_server: str, tmp_path: Path
) -> None:
    program = program_with(f"def getaddrinfo(*args, **kwargs): {name_server}", tmp_path)
    begun = time.monotonic()
    look = looks(StubLog(), timeout_s=2.0, program=program)
    found = await look.manifest("registry.test/library/tiny", is_insecure=True)
    await look.close()
    took_s = time.monotonic() - begun

    assert found is None
    assert took_s < 4


def program_with(getaddrinfo: str, folder: Path) -> Path:
    """The child's program, with a name server of the test's own."""
    program = folder / "program.py"
    lines = ("import runpy, socket, time", getaddrinfo, "socket.getaddrinfo = getaddrinfo")
    program.write_text("\n".join((*lines, f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')", "")))
    return program


async def test_the_proxy_of_the_environment_is_asked_with_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(say_manifest) as proxy, looking() as look:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
        found = await look.manifest("registry.test/library/tiny", is_insecure=True)

    [request] = proxy.asked
    assert found == parse_manifest(MANIFEST)
    assert request.headers["Host"] == "registry.test"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"  # me:secret


async def test_passwords_of_the_home_folder_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with serving(say_manifest) as server, looking() as look:
        await look.manifest(server.name, is_insecure=True)

    [request] = server.asked
    assert "Authorization" not in request.headers
