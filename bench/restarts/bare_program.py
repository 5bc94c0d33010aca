"""`python bare_program.py PORT`: a server with one route, which is what any service on aiohttp costs at the least."""

from __future__ import annotations

import sys

from aiohttp import web


async def answer(_request: web.Request) -> web.Response:
    """Yes."""
    return web.Response(text="ok")


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/livez", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
