"""Readiness by an answered request of this very generation.

A TCP connect proves nothing: Ollama listens before it serves (facts/ollama.md §2.3).
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from arasul_supervisor.supervision.ports import listener_among
from arasul_supervisor.supervision.runners import descendants

_RETRY_S: Final = 0.01
_FOREIGN_S: Final = 0.5  # somebody else answers there: no need to hurry
_LIMIT_BYTES: Final = 16 * 1024
_VERSION_REQUEST: Final = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def answered_version(host: str, port: int, pid: int) -> str:
    """Wait until the engine with this pid answers `GET /api/version`, and return the version it names.

    A connect is tried every 10 ms; once connected the request is kept pending, so that the answer is seen the
    instant it comes. An answer counts only if `pid` holds the listening socket: another Ollama on the port must
    not be taken for ours. Never returns while there is no such answer; the caller sets the limit.
    """
    pause_s = _RETRY_S  # at first too: it has yet to execute its program, on our processor perhaps
    while True:
        await asyncio.sleep(pause_s)
        version = await _ask_version(host, port)
        if version is not None and _is_ours(pid, port):
            return version
        pause_s = _RETRY_S if version is None else _FOREIGN_S


def _is_ours(pid: int, port: int) -> bool:
    """True when the engine or, below a wrapper script, one of its children holds the listening socket."""
    return listener_among((pid, *descendants(pid)), port) is not None


async def _ask_version(host: str, port: int) -> str | None:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=_LIMIT_BYTES)
    except OSError:
        return None
    try:
        writer.write(_VERSION_REQUEST)
        answer = await reader.read(_LIMIT_BYTES)
        while (more := await reader.read(_LIMIT_BYTES)) and len(answer) < _LIMIT_BYTES:
            answer += more
        return _version_in(answer)
    except OSError:
        return None
    finally:
        writer.transport.abort()


def _version_in(answer: bytes) -> str | None:
    """The version in `HTTP/1.1 200 OK…\\r\\n\\r\\n{"version":"0.34.4"}`; None for anything else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    version = value.get("version") if isinstance(value, dict) else None
    return version if isinstance(version, str) else None
