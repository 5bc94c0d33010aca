"""The program of the child that looks into a registry: one request on stdin, one line of JSON for it.

    python -I registry_child.py PARENT_PID SEARCH_PATH…

The daemon speaks plain HTTP on loopback and holds no TLS (`held_back.py`); a name server that is silent holds nobody
but this process. The search path is the daemon's own: `-I` may hide from where that has its libraries.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from typing import Any


def main() -> int:
    """Answer the request, `{"url":…,"is_insecure":false,"max_bytes":…}`."""
    parent_pid, *search_path = sys.argv[1:]
    sys.path[:] = search_path
    ground: Any = import_module(
        "arasul_supervisor.line_child.ground"
    )  # Any: by name, which the path must precede
    ground.stand_alone(int(parent_pid))
    asyncio.run(_answer(ground, json.loads(sys.stdin.readline())))
    return 0


async def _answer(ground: Any, request: dict[str, Any]) -> None:  # Any: a module, and JSON
    """Say it from within the loop, whose end waits for a silent name server."""
    try:
        registry_look: Any = import_module("arasul_supervisor.ollama.pulls.registry_look")
        ground.say(await registry_look.look(**request))
    except Exception as error:  # the daemon logs it: nobody reads our stderr
        ground.say({"failed": type(error).__name__})


if __name__ == "__main__":
    sys.exit(main())
