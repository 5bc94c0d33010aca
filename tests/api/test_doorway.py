"""Guards `/livez` (CONTRACT §4): 200 from the first moment on, while all that answers the rest is still imported."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.dispatch import Dispatch
from arasul_supervisor.api.doorway import open_doorway
from arasul_supervisor.api.guards import Guard
from arasul_supervisor.api.liveness import LIVEZ
from arasul_supervisor.api.routes import Route, RouteTable
from arasul_supervisor.api.server import ManagementApi
from arasul_supervisor.settings import load_settings
from tests.api.raw import ask, connection
from tests.engine.log_ground import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arasul_supervisor.api.doorway import Doorway
    from arasul_supervisor.settings import Settings

SETTLE_S = 0.05


class Ground:
    """An open doorway, and the API that comes later."""

    def __init__(self, doorway: Doorway, settings: Settings, port: int) -> None:
        self.doorway, self.port, self.n_ended = doorway, port, 0
        table = RouteTable((LIVEZ, Route("GET", "/x", lambda _call: Reply({"x": 1}), "x", {})))
        dispatch = Dispatch(table, Guard(settings), passthrough=None, daemon_log=Told([]))
        self.api = ManagementApi(dispatch, self._end)

    async def _end(self) -> None:
        self.n_ended += 1


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Ground]:
    environ = {"HOME": "/nonexistent", "ARASUL_STATE_DIR": str(tmp_path)}
    settings = await asyncio.to_thread(load_settings, environ)  # it looks at files
    sock = socket.create_server(("127.0.0.1", 0))
    doorway = await open_doorway(settings, sock, Told([]))
    try:
        yield Ground(doorway, settings, sock.getsockname()[1])
    finally:
        await doorway.close()


async def test_livez_is_answered_before_the_rest_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground:
        answer = await ask(ground.port, "GET", "/livez")
        assert (answer.status, answer.json()) == (200, {"status": "alive"})


async def test_what_is_foreign_is_refused_from_the_first_moment_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground, connection(ground.port) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await client.answer()).status == 403
        assert (await ask(ground.port, "POST", "/livez")).status == 405


async def test_all_else_is_answered_once_there_is_somebody_to_do_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground:
        asked = [asyncio.create_task(ask(ground.port, "GET", path)) for path in ("/x", "/nothing")]
        await asyncio.sleep(SETTLE_S)
        waiting = [task.done() for task in asked]
        ground.doorway.hand_over(ground.api)
        answers = await asyncio.gather(*asked)
        assert waiting == [False, False]
        assert [answer.status for answer in answers] == [200, 404]
        assert (await ask(ground.port, "GET", "/x")).json() == {"x": 1}


async def test_a_caller_that_leaves_while_it_waits_harms_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground:
        async with connection(ground.port) as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.sleep(SETTLE_S)
        await asyncio.sleep(SETTLE_S)
        ground.doorway.hand_over(ground.api)
        assert (await ask(ground.port, "GET", "/x")).status == 200


async def test_a_connection_from_before_is_served_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground, connection(ground.port) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer()).status == 200
        ground.doorway.hand_over(ground.api)
        for path in (b"/x", b"/livez"):
            await client.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer()).status == 200


async def test_callers_that_wait_are_let_go_when_the_daemon_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground:
        asked = asyncio.create_task(ask(ground.port, "GET", "/x"))
        await asyncio.sleep(SETTLE_S)
        await asyncio.wait_for(ground.doorway.close(), 2)
        assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], Exception)


async def test_the_end_is_told_once_to_what_was_handed_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as ground:
        ground.doorway.hand_over(ground.api)
        await ground.doorway.close()
        assert (ground.n_ended, ground.api.dispatch.is_closing) == (1, True)
