"""Guards that a runner's answer is told for what it is, within its bound, and that nothing of it stays but counters."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.healing.looking.runner_questions import RunnerQuestions
from arasul_supervisor.healing.looking.witnesses import Answering, SlotsLook
from tests.engine.processes import pick_free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

QUESTIONS = RunnerQuestions(SystemClock())
SLOTS = (
    b'[{"id":0,"is_processing":true,"id_task":7,"n_prompt_tokens":90,"n_prompt_tokens_processed":64,'
    b'"prompt":"a secret","next_token":[{"has_next_token":true,"n_decoded":12}]},'
    b'{"id":1,"is_processing":false}]'
)
TWO_CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1c\r\n{"content":"x","done":false}\r\n10\r\n{"done":true}   \r\n0\r\n\r\n'
)


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def refusal(status: int) -> bytes:
    return b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\n{}" % status


@asynccontextmanager
async def runner(
    answers: Mapping[str, bytes], *, asked: list[bytes] | None = None, after_s: float = 0
) -> AsyncIterator[int]:
    """Answers each path with these bytes and keeps the connection open; says nothing to others. Gives its port."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        await asyncio.sleep(after_s)
        writer.write(answers.get(head.split()[1].decode(), b""))
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", pick_free_port())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


async def ask(
    answers: Mapping[str, bytes], *, wants_slots: bool = True
) -> tuple[Answering, SlotsLook | None]:
    async with runner(answers) as port:
        return await QUESTIONS.ask(port, wants_slots=wants_slots, timeout_s=0.3)


async def probe(answer: bytes, *, is_llama_server: bool = True) -> bool | None:
    async with runner({"/completion": answer}) as port:
        return await QUESTIONS.probe(port, is_llama_server=is_llama_server, timeout_s=0.3)


async def test_slots_tell_their_counters() -> None:
    assert await ask({"/slots": ok(SLOTS)}) == (
        Answering.READY,
        SlotsLook(is_busy=True, progress=((7, 64, 12), (-1, 0, 0))),
    )


async def test_slots_of_an_earlier_llama_server_tell_their_counters() -> None:
    body = b'[{"is_processing":true,"id_task":1,"next_token":{"n_decoded":3}}]'
    assert await ask({"/slots": ok(body)}) == (
        Answering.READY,
        SlotsLook(is_busy=True, progress=((1, 0, 3),)),
    )


@pytest.mark.parametrize("status", [404, 501, 401])
async def test_where_slots_are_not_told_the_health_is_asked(status: int) -> None:
    answers = {"/slots": refusal(status), "/health": ok(b'{"status":"ok"}')}
    assert await ask(answers) == (Answering.READY, None)


@pytest.mark.parametrize("body", [b"[{}]", b"{}", b"[", b'[{"is_processing":"yes"}]'])
async def test_slots_that_cannot_be_read_are_not_told(body: bytes) -> None:
    assert await ask({"/slots": ok(body), "/health": ok(b'{"status":"ok"}')}) == (Answering.READY, None)


async def test_slots_that_are_longer_than_a_mebibyte_are_not_told() -> None:
    answers = {"/slots": ok(b"[" + b" " * 1_100_000 + b"]"), "/health": ok(b'{"status":"ok"}')}
    assert await ask(answers) == (Answering.READY, None)


@pytest.mark.parametrize(
    ("answer", "answering"),
    [
        pytest.param(ok(b'{"status":"ok"}'), Answering.READY, id="llama-server"),
        pytest.param(ok(b'{"status":0,"progress":1}'), Answering.READY, id="the older generation"),
        pytest.param(
            ok(b'{"status":3,"progress":0.4}'), Answering.LOADING, id="the older one while it loads"
        ),
        pytest.param(ok(b'{"status":"loading model"}'), Answering.LOADING, id="another word"),
        pytest.param(refusal(503), Answering.LOADING, id="503"),
        pytest.param(refusal(308), Answering.READY, id="MLX sends elsewhere"),
        pytest.param(ok(b"<html>"), Answering.READY, id="no JSON"),
        pytest.param(b"", Answering.SILENT, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Answering.SILENT, id="half an answer"),
    ],
)
async def test_the_health_is_told_for_what_it_is(answer: bytes, answering: Answering) -> None:
    assert await ask({"/health": answer}, wants_slots=False) == (answering, None)


async def test_a_503_for_the_slots_is_a_load_without_a_second_question() -> None:
    assert await ask({"/slots": refusal(503)}) == (Answering.LOADING, None)


async def test_silence_over_slots_is_silence() -> None:
    assert await ask({"/health": ok(b'{"status":"ok"}')}) == (Answering.SILENT, None)


async def test_a_port_that_nobody_listens_on_is_closed() -> None:
    found = await QUESTIONS.ask(pick_free_port(), wants_slots=True, timeout_s=1)
    assert found == (Answering.CLOSED, None)


async def test_the_time_is_for_both_questions_together() -> None:
    async with runner({"/slots": refusal(404)}, after_s=0.4) as port:
        began = asyncio.get_running_loop().time()
        assert await QUESTIONS.ask(port, wants_slots=True, timeout_s=0.5) == (Answering.SILENT, None)
        assert asyncio.get_running_loop().time() - began < 0.8


async def test_a_cancelled_question_leaves_no_descriptor() -> None:
    async with runner({}) as port:
        asking = asyncio.create_task(QUESTIONS.ask(port, wants_slots=False, timeout_s=10))
        await asyncio.sleep(0.05)
        open_before = len(os.listdir("/proc/self/fd"))
        asking.cancel()
        await asyncio.wait({asking})
        assert len(os.listdir("/proc/self/fd")) == open_before - 1


@pytest.mark.parametrize(
    ("answer", "is_llama_server", "can"),
    [
        pytest.param(ok(b'{"content":"x","stop":true}'), True, True, id="a token"),
        pytest.param(TWO_CHUNKS, False, True, id="a token of the older generation"),
        pytest.param(TWO_CHUNKS.removesuffix(b"0\r\n\r\n"), False, False, id="half an answer"),
        pytest.param(ok(b'{"error":"no"}'), False, None, id="an error of the older generation"),
        pytest.param(refusal(500), True, None, id="500"),
        pytest.param(refusal(401), True, None, id="it wants a key"),
        pytest.param(refusal(501), True, None, id="it only embeds"),
        pytest.param(refusal(308), True, None, id="MLX sends elsewhere"),
        pytest.param(b"", True, False, id="nothing"),
    ],
)
async def test_a_probe_says_whether_a_token_came(
    answer: bytes, is_llama_server: bool, can: bool | None
) -> None:
    assert await probe(answer, is_llama_server=is_llama_server) is can


async def test_a_probe_of_a_runner_that_is_gone_tells_nothing() -> None:
    assert await QUESTIONS.probe(pick_free_port(), is_llama_server=True, timeout_s=1) is None


async def test_each_question_asks_for_the_end_of_its_connection() -> None:
    asked: list[bytes] = []
    async with runner({"/health": ok(b"{}")}, asked=asked) as port:
        await QUESTIONS.ask(port, wants_slots=False, timeout_s=1)
    assert b"\r\nConnection: close\r\n" in asked[0]


async def test_without_a_descriptor_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    assert await QUESTIONS.ask(1, wants_slots=False, timeout_s=1) == (Answering.UNASKED, None)
