"""What the fake engine answers: Ollama's API in small."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from tests.engine.fake_answers import Answers
from tests.engine.fake_names import blob_of, digest_of, model_of, tagged
from tests.engine.fake_scheduler import Scheduler, family_of
from tests.engine.fake_spoilers import SPOILERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.fake_http import Connection, Request
    from tests.engine.fake_modes import Orders

KEPT_BODY_BYTES = 4096
FAR_AWAY = "2319-01-01T00:00:00.000000000Z"


class FakeApi:
    """The state behind the fake's port 11434."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        newest = "0.24.0" if family_of(orders) == "0.24" else "0.34.4"
        self._version = os.environ.get("FAKE_OLLAMA_VERSION", newest)
        pairs = os.environ.get("FAKE_OLLAMA_MODELS", "tiny:latest=450784").split(",")
        self._installed = {
            name: int(size) for name, _, size in (pair.rpartition("=") for pair in pairs) if name
        }
        self._scheduler = Scheduler(orders, blob_of)
        self._answers = Answers(self._scheduler)
        self._requests: list[dict[str, object]] = []
        self._counts: dict[str, int] = {}
        self._aborted = 0
        self._routes: dict[tuple[str, str], Callable[[Connection, Request], None]] = {
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("GET", "/v1/models"): self._v1_models,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/chat"): self._generate,
            ("POST", "/v1/chat/completions"): self._v1_chat,
            ("POST", "/api/embed"): self._answers.embed,
            ("POST", "/api/pull"): self._pull,
            ("POST", "/api/copy"): self._copy,
            ("DELETE", "/api/delete"): self._delete,
        }

    def answer(self, connection: Connection, request: Request) -> None:
        """Answer well, or as badly as ordered."""
        if request.path == "/__fake/requests":
            connection.answer_json(request, self._report())
            return
        self._note(request)
        for mode in self._orders.now():
            spoil = SPOILERS.get(mode.name)
            if (
                spoil
                and mode.fits(request.method, request.path)
                and spoil(mode, connection, request, self.answer_well)
            ):
                return
        try:
            self.answer_well(connection, request)
        except ConnectionError:
            self._aborted += 1
            raise

    def answer_well(self, connection: Connection, request: Request) -> None:
        """Answer as Ollama does."""
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if request.target == "*":
            connection.answer(request, 200, b"")
        elif request.path == "/":
            connection.answer(request, 200, b"Ollama is running", "text/plain; charset=utf-8")
        elif request.path == "/api/version":
            connection.answer_json(request, {"version": self._version})
        elif request.path.startswith("/api/echo"):
            self._echo(connection, request)
        elif route is not None:
            route(connection, request)
        elif any(path == request.path for _, path in self._routes):
            connection.answer(request, 405, b"405 method not allowed", "text/plain")
        else:
            connection.answer(request, 404, b"404 page not found", "text/plain")

    def _note(self, request: Request) -> None:
        key = f"{request.method} {request.path}"
        self._counts[key] = self._counts.get(key, 0) + 1
        body = request.body[:KEPT_BODY_BYTES].decode("utf-8", "replace")
        entry: dict[str, object] = {"method": request.method, "target": request.target, "body": body}
        entry |= {"headers": request.headers, "at": time.time(), "pid": os.getpid()}
        self._requests = [*self._requests[-999:], entry]
        path = os.environ.get("FAKE_OLLAMA_REQUESTS")
        if path is not None:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _report(self) -> dict[str, object]:
        about = {"pid": os.getpid(), "life": self._orders.life, "aborted": self._aborted}
        return {
            "counts": self._counts,
            "requests": self._requests,
            "threads": threading.active_count(),
            **about,
        }

    def _echo(self, connection: Connection, request: Request) -> None:
        body = {"bytes": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}
        connection.answer_json(
            request, {"method": request.method, "target": request.target, "headers": request.headers, **body}
        )

    def _tags(self, connection: Connection, request: Request) -> None:
        models = [
            self._entry(name) | {"modified_at": "2026-01-02T03:04:05.678901234Z"} for name in self._installed
        ]
        connection.answer_json(request, {"models": models})

    def _ps(self, connection: Connection, request: Request) -> None:
        models = [
            self._entry(name) | {"expires_at": _expires_at(until), "size_vram": 0, "context_length": 2048}
            for name, until in self._scheduler.expiries().items()
        ]
        connection.answer_json(request, {"models": models})

    def _entry(self, name: str) -> dict[str, object]:
        details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"]}
        details |= {"parameter_size": "111K", "quantization_level": "F32"}
        return {
            "name": name,
            "model": name,
            "size": self._installed.get(name, 1),
            "digest": digest_of(name),
            "details": details,
        }

    def _show(self, connection: Connection, request: Request) -> None:
        name = model_of(request)
        if name not in self._installed:
            connection.answer_json(request, {"error": f"model '{name}' not found"}, 404)
            return
        info = {"general.architecture": "llama", "llama.context_length": 2048}
        connection.answer_json(
            request, {**self._entry(name), "model_info": info, "capabilities": ["completion"]}
        )

    def _generate(self, connection: Connection, request: Request) -> None:
        if model_of(request) not in self._installed:
            connection.answer_json(request, {"error": f"model '{model_of(request)}' not found"}, 404)
        else:
            self._answers.generate(connection, request)

    def _v1_models(self, connection: Connection, request: Request) -> None:
        data = [
            {"id": name, "object": "model", "created": 1, "owned_by": "library"} for name in self._installed
        ]
        connection.answer_json(request, {"object": "list", "data": data})

    def _v1_chat(self, connection: Connection, request: Request) -> None:
        chunks = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'] * 4 + [b"data: [DONE]\n\n"]
        connection.stream(chunks, "text/event-stream")

    def _pull(self, connection: Connection, request: Request) -> None:
        name = model_of(request)
        mode = self._orders.find("pull")
        options: Callable[[str, float], float] = mode.number if mode else lambda _, default: default
        failure = mode.text("fail", "") if mode else ""

        def lines() -> Iterator[dict[str, object]]:
            count, total = int(options("lines", 5)), int(options("total", 1_000_000))
            stall, silent = options("stall_after", float("inf")), options("silent_after", float("inf"))
            yield {"status": "pulling manifest"}
            done = 0
            while done < count:
                time.sleep(options("line_s", 0.01))
                if done >= silent:
                    connection.wait_until_gone()
                    raise ConnectionResetError
                done += done < stall
                now_us = time.monotonic_ns() // 1000
                blob = {
                    "digest": f"sha256:{digest_of(name)}",
                    "total": total,
                    "completed": now_us if options("stamped", 0) else total * done // count,
                }
                yield {"status": f"pulling {digest_of(name)[:12]}", **blob}
            if failure:
                yield {"error": failure}
                return
            yield {"status": "verifying sha256 digest"}
            yield {"status": "writing manifest"}
            self._installed[name] = total
            yield {"status": "success"}

        if request.json().get("stream") is False:
            last = list(lines())[-1]
            connection.answer_json(request, last, 500 if "error" in last else 200)
        else:
            connection.stream(json.dumps(line).encode() + b"\n" for line in lines())

    def _copy(self, connection: Connection, request: Request) -> None:
        source = tagged(str(request.json().get("source", "")))
        if source not in self._installed:
            connection.answer_json(request, {"error": f'model "{source}" not found'}, 404)
            return
        self._installed[tagged(str(request.json().get("destination", "")))] = self._installed[source]
        connection.answer(request, 200, b"")

    def _delete(self, connection: Connection, request: Request) -> None:
        if self._installed.pop(model_of(request), None) is None:
            connection.answer_json(request, {"error": f"model '{model_of(request)}' not found"}, 404)
            return
        connection.answer(request, 200, b"")


def _expires_at(until: float) -> str:
    if until == float("inf"):
        return FAR_AWAY
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000001Z", time.gmtime(until))
