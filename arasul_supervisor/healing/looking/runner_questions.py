"""Questions to a runner's own HTTP server: does it answer, does it move, can it still make a token.

Each has a connection of its own, which is closed when the answer is handed out: an open one would look like a request
in /proc/net/tcp. Answers may hold prompts: nothing of them is kept but the counters.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor.bounded import within
from arasul_supervisor.healing.looking.witnesses import Answering, SlotsLook

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock

_HOST: Final = "127.0.0.1"
_MAX_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_TOKEN_OF_LLAMA_SERVER: Final = b'{"prompt":"a","n_predict":1,"cache_prompt":false}'
_TOKEN_OF_OLLAMA_RUNNER: Final = b'{"prompt":"a","options":{"num_predict":1}}'
"""≤ 0.29: the fields of `llm.CompletionRequest`; the answer is a stream whose last line says `"done":true`."""


class _NextToken(msgspec.Struct, frozen=True):
    n_decoded: int = 0


class _Slot(msgspec.Struct, frozen=True):
    """`{"id":0,"is_processing":true,"id_task":7,"n_prompt_tokens_processed":3,"next_token":[{"n_decoded":12,…}],…}`"""

    is_processing: bool
    id_task: int = -1
    n_prompt_tokens_processed: int = 0
    next_token: list[_NextToken] | _NextToken = []

    @property
    def n_decoded(self) -> int:
        tokens = self.next_token if isinstance(self.next_token, list) else [self.next_token]
        return sum(token.n_decoded for token in tokens)


class _Health(msgspec.Struct, frozen=True):
    """`{"status":"ok"}`; ≤ 0.29 `{"status":0,"progress":1}`."""

    status: str | int = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


class RunnerQuestions:
    """Asks runners. Nothing is open between two questions."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def ask(
        self, port: int, *, wants_slots: bool, timeout_s: float
    ) -> tuple[Answering, SlotsLook | None]:
        """How it takes a question, and what its slots do, where that was wanted and it tells.

        `GET /slots` is answered in 10 ms under full load, but an idle runner writes a line about it into the log: want
        it of one that works. `GET /health` writes none. An answer that neither says "ready" nor "loading" is READY.

        :param port: of 127.0.0.1
        :param timeout_s: for both together, where `/slots` is switched off (LLAMA_ARG_ENDPOINT_SLOTS=0)
        """
        deadline_mono = self._clock.mono() + timeout_s
        try:
            answer = await within(_exchange(port, "GET", "/slots"), timeout_s) if wants_slots else None
            slots = _slots_in(answer)
            if slots is not None:
                return Answering.READY, slots
            if answer is None or answer.status != 503:
                left_s = max(0.0, deadline_mono - self._clock.mono())
                answer = await within(_exchange(port, "GET", "/health"), left_s)
        except asyncio.TimeoutError:
            return Answering.SILENT, None
        except ConnectionError:
            return Answering.CLOSED, None
        except OSError:  # no descriptor left
            return Answering.UNASKED, None
        return (Answering.LOADING if _is_loading(answer) else Answering.READY), None

    async def probe(self, port: int, *, is_llama_server: bool, timeout_s: float) -> bool | None:
        """True when it makes one token, False when no answer came in time; None for any other answer, and for none.

        Asked past Ollama, it can neither load nor evict anything. It waits behind an open request, so ask an idle one.
        The prompt cache of a user's conversation is left alone on ≥ 0.30.
        """
        body = _TOKEN_OF_LLAMA_SERVER if is_llama_server else _TOKEN_OF_OLLAMA_RUNNER
        try:
            answer = await within(_exchange(port, "POST", "/completion", body), timeout_s)
        except asyncio.TimeoutError:
            return False
        except OSError:  # it ended meanwhile, or no descriptor is left
            return None
        is_made = answer.status == 200 and (is_llama_server or b'"done":true' in answer.body)
        return (
            True if is_made else None
        )  # it wants a key, cannot generate, is an MLX one that sends elsewhere


async def _exchange(port: int, method: str, path: str, body: bytes = b"") -> _Answer:
    """One request and its answer, on a connection that is closed before this returns, raises or is cancelled.

    :raises ConnectionError: nothing listens, or it hung up before its answer was whole
    :raises OSError: no descriptor is left
    """
    loop = asyncio.get_running_loop()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, (_HOST, port))
        await loop.sock_sendall(connection, head.encode() + b"\r\n" + body)
        received = bytearray()
        while chunk := await loop.sock_recv(connection, _READ_BYTES):
            received += chunk
            answer = _whole_answer(received)
            if answer is not None:
                return answer
    raise ConnectionError(f"The runner hung up before its answer to {path} was whole.")


def _whole_answer(received: bytearray) -> _Answer | None:
    """`HTTP/1.1 200 OK…Content-Length: 15…{"status":"ok"}`, or in chunks; None until all of it is there.

    One that is too long counts as whole: it has answered, and what it says is not understood.
    """
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    if not end and len(received) <= _MAX_BYTES:
        return None
    first, *lines = head.lower().split(b"\r\n")
    fields = {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if fields.get(b"transfer-encoding") == b"chunked":
        is_whole = body.endswith(b"0\r\n\r\n")
    else:
        length = fields.get(b"content-length", b"")
        is_whole = not length.isdigit() or len(body) >= int(length)
    words = first.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    if len(received) > _MAX_BYTES:
        return _Answer(status, b"")
    return _Answer(status, body) if is_whole else None


def _slots_in(answer: _Answer | None) -> SlotsLook | None:
    if answer is None or answer.status != 200:
        return None
    try:
        slots = msgspec.json.decode(answer.body, type=list[_Slot])
    except msgspec.MsgspecError:
        return None
    progress = tuple((slot.id_task, slot.n_prompt_tokens_processed, slot.n_decoded) for slot in slots)
    return SlotsLook(any(slot.is_processing for slot in slots), progress)


def _is_loading(answer: _Answer) -> bool:
    if answer.status == 503:
        return True
    if answer.status != 200:
        return False
    try:
        status = msgspec.json.decode(answer.body, type=_Health).status
    except msgspec.MsgspecError:
        return False
    return status not in ("ok", 0, "")
