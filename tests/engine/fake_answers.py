"""What the models of the fake engine say: loads, unloads and answers, token by token."""

from __future__ import annotations

import json
import select
import socket
from itertools import chain
from typing import TYPE_CHECKING

from tests.engine.fake_names import model_of
from tests.engine.fake_runner_process import RunnerDied
from tests.engine.fake_scheduler import DIED, Refused, Scheduler, parse_keep_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.fake_http import Connection, Request
    from tests.engine.fake_scheduler import Loaded


class Answers:
    """The requests that need a model in memory."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def generate(self, connection: Connection, request: Request) -> None:
        """`/api/generate` and `/api/chat`, of a model that is installed."""
        name, body = model_of(request), request.json()
        keep_alive, has_prompt = body.get("keep_alive"), bool(body.get("prompt") or body.get("messages"))
        if not has_prompt and parse_keep_alive(keep_alive) == 0:
            self._scheduler.unload(name)
            connection.answer_json(request, _done(name, "unload"))
            return
        try:
            with self._scheduler.use(name, keep_alive, lambda: _is_gone(connection)) as loaded:
                if has_prompt:
                    self._speak(connection, request, loaded)
                else:
                    connection.answer_json(request, _done(name, "load"))
        except Refused as refusal:
            connection.answer_json(request, {"error": refusal.text}, refusal.status)

    def _speak(self, connection: Connection, request: Request, loaded: Loaded) -> None:
        key = "message" if request.path == "/api/chat" else "response"
        lines = self._lines(connection, request, loaded, key)
        if request.json().get("stream") is False:
            *tokens, last = lines
            text = "a" * len(tokens)
            if "error" in last:
                raise Refused(500, DIED)
            connection.answer_json(request, {**last, key: text if key == "response" else _said(text)})
        else:
            first = next(lines)  # what fails before the first token is no 200
            connection.stream(json.dumps(line).encode() + b"\n" for line in chain([first], lines))

    def _lines(
        self, connection: Connection, request: Request, loaded: Loaded, key: str
    ) -> Iterator[dict[str, object]]:
        options = request.json().get("options")
        count = int(options.get("num_predict", 8)) if isinstance(options, dict) else 8
        line: dict[str, object] = {
            "model": loaded.name,
            key: "a" if key == "response" else _said("a"),
            "done": False,
        }
        n_said = 0
        try:
            for _ in self._scheduler.tokens(loaded, count, lambda: _is_gone(connection)):
                n_said += 1
                yield line
        except RunnerDied:
            if not n_said:
                raise Refused(500, DIED) from None
            yield {"error": DIED}
            return
        yield {**_done(loaded.name, "length"), key: "" if key == "response" else _said("")}

    def embed(self, connection: Connection, request: Request) -> None:
        """`/api/embed`: loads, and tells nothing."""
        keep_alive = request.json().get("keep_alive")
        try:
            with self._scheduler.use(model_of(request), keep_alive, lambda: _is_gone(connection)):
                connection.answer_json(request, {"model": model_of(request), "embeddings": []})
        except Refused as refusal:
            connection.answer_json(request, {"error": refusal.text}, refusal.status)


def _is_gone(connection: Connection) -> bool:
    """Whether the client has gone away; what it has sent stays to be read."""
    sock = connection._sock
    if not select.select([sock], [], [], 0)[0]:
        return False
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        return True


def _done(name: str, reason: str) -> dict[str, object]:
    counts = {"total_duration": 1000000, "eval_count": 8, "eval_duration": 1000000}
    return {
        "model": name,
        "created_at": "2026-01-02T03:04:05Z",
        "response": "",
        "done": True,
        "done_reason": reason,
        **counts,
    }


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
