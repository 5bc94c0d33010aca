"""What aiohttp itself can do: a server with one route and a ready-made body, `bare_handler PORT BODY_BYTES`.

Ends with its stdin.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tests.engine.daemon import send
from tests.engine.processes import pick_free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT_TYPE: Final = "application/json; charset=utf-8"
PATH: Final = "/health"
START_S: Final = 10.0


@contextmanager
def bare_handler(body_bytes: int, core: int | None) -> Iterator[int]:
    """The port of such a server; it runs on that core alone."""
    port = pick_free_port()
    under = ("taskset", "--cpu-list", str(core)) if core is not None else ()
    command = [*under, sys.executable, "-m", "bench.answers.bare_handler", str(port), str(body_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        try:
            _wait_for_answer(port)
            yield port
        finally:
            server.communicate()


def _wait_for_answer(port: int) -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            send(port, "GET", PATH)
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.01)
        else:
            return


async def main(port: int, body_bytes: int) -> None:
    """Serve until stdin ends."""
    body = b"x" * body_bytes

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
