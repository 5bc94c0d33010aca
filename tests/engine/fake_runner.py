"""A model runner of the fake engine, seen from inside: what it answers, and how it works, in both generations.

≥ 0.30 (`llama-server`): `/health`, `/slots`, `POST /completion`. ≤ 0.29 (`ollama runner`): the same without `/slots`.
The engine tells with each completion how it is to go: `n_predict`, `pause_s`, `stuck_after`.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.fake_http import Connection, Request

PROMPT_TOKENS = 3
# More than one tick: work that /proc shows, however long the pause between two tokens.
WORK_PER_TOKEN_S = 0.012
LOADING_34 = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
LOADING_24 = {"status": 3, "progress": 0.5}


class RunnerApi:
    """The state behind a runner's port: one slot, and whether the weights are there yet."""

    def __init__(self, family: str, load_s: float, *, reads: bool) -> None:
        """Begin to load; `reads`: it is seen to read and to work while it does."""
        self._is_llama_server = family != "0.24"
        self._slot = threading.Lock()
        self._is_busy = False
        self._task = self._n_read = self._n_decoded = self._n_predict = 0
        self._is_loaded = threading.Event()
        threading.Thread(target=self._load, args=(load_s, reads), daemon=True).start()

    def answer(self, connection: Connection, request: Request) -> None:
        """Answer as that generation's runner does."""
        if request.path == "/health":
            self._health(connection, request)
        elif request.path == "/slots" and self._is_llama_server:
            self._slots(connection, request)
        elif request.path == "/completion":
            connection.stream(self._complete(request.json()))
        else:
            connection.answer(request, 404, b"404 page not found", "text/plain")

    def _load(self, load_s: float, reads: bool) -> None:
        end = time.monotonic() + load_s
        while (left_s := end - time.monotonic()) > 0:
            if reads:
                with open(__file__, "rb") as weights:
                    weights.read()
                _work(WORK_PER_TOKEN_S)
            time.sleep(min(left_s, 0.05))
        self._is_loaded.set()

    def _health(self, connection: Connection, request: Request) -> None:
        is_loaded = self._is_loaded.is_set()
        if self._is_llama_server:
            connection.answer_json(
                request, {"status": "ok"} if is_loaded else LOADING_34, 200 if is_loaded else 503
            )
        else:
            connection.answer_json(request, {"status": 0, "progress": 1} if is_loaded else LOADING_24)

    def _slots(self, connection: Connection, request: Request) -> None:
        if os.environ.get("LLAMA_ARG_ENDPOINT_SLOTS") == "0":
            connection.answer_json(request, {"error": {"code": 501, "type": "not_supported_error"}}, 501)
            return
        if not self._is_busy:
            os.write(2, b"srv  update_slots: all slots are idle\n")
        slot: dict[str, object] = {"id": 0, "n_ctx": 2048, "is_processing": self._is_busy}
        if self._task:
            slot |= {"id_task": self._task, "n_prompt_tokens": PROMPT_TOKENS}
            slot |= {"n_prompt_tokens_processed": self._n_read, "n_prompt_tokens_cache": 0}
            n_remain = self._n_predict - self._n_decoded
            slot["next_token"] = [
                {"has_next_token": self._is_busy, "n_remain": n_remain, "n_decoded": self._n_decoded}
            ]
        connection.answer_json(request, [slot])

    def _complete(self, asked: dict[str, object]) -> Iterator[bytes]:
        """A line per token, and a last one that says `stop`; stands still for ever after `stuck_after` tokens."""
        n_predict, pause_s = _number(asked, "n_predict", 8), _number(asked, "pause_s", 0)
        stuck_after = _number(asked, "stuck_after", float("inf"))
        with self._slot:
            self._is_busy, self._n_read, self._n_decoded = True, 0, 0
            self._task += 1
            self._n_predict = int(n_predict)
            try:
                self._n_read = PROMPT_TOKENS
                while self._n_decoded < n_predict:
                    if self._n_decoded >= stuck_after:
                        threading.Event().wait()
                    _work(min(pause_s, WORK_PER_TOKEN_S))
                    time.sleep(max(0.0, pause_s - WORK_PER_TOKEN_S))
                    self._n_decoded += 1
                    yield b'{"content":"a","stop":false}\n'
                yield b'{"content":"","stop":true,"tokens_predicted":%d}\n' % self._n_decoded
            finally:
                self._is_busy = False


def _work(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


def _number(asked: dict[str, object], key: str, default: float) -> float:
    value = asked.get(key)
    return float(value) if isinstance(value, int | float) else default
