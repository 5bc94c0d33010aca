"""Guards the heartbeat of a running engine (DESIGN §5): what counts as an answer, and on which connection it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.supervision.heartbeat import Heartbeat
from tests.engine.processes import pick_free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WITH_BODY = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 3\r\n\r\nno\n"
PERIOD_S = 0.1


class PlayedEngine:
    """Answers each question with the next of its parts; `None` hangs up. The last one is repeated."""

    def __init__(self) -> None:
        self.answers: list[Sequence[bytes | None]] = [[OK]]
        self.questions: list[bytes] = []
        self.n_connections = 0
        self.port = pick_free_port()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        try:
            while True:
                self.questions.append(await reader.readuntil(b"\r\n\r\n"))
                for part in self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]:
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def engine() -> AsyncIterator[PlayedEngine]:
    played = PlayedEngine()
    server = await asyncio.start_server(played.serve, "127.0.0.1", played.port)
    yield played
    server.close()


async def beats(port: int, count: int) -> list[bool]:
    """The first so many reports."""
    seen: list[bool] = []
    enough = asyncio.Event()

    def take(is_answered: bool) -> None:
        seen.append(is_answered)
        if len(seen) == count:
            enough.set()

    task = asyncio.create_task(Heartbeat("127.0.0.1", port, take, period_s=PERIOD_S).run())
    await asyncio.wait_for(enough.wait(), 10)
    task.cancel()
    await asyncio.wait((task,))
    return seen[:count]


async def test_an_engine_that_answers_is_asked_on_one_connection(engine: PlayedEngine) -> None:
    assert await beats(engine.port, 5) == [True] * 5
    assert engine.n_connections == 1
    assert set(engine.questions) == {b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"}


async def test_an_answer_may_come_in_pieces(engine: PlayedEngine) -> None:
    engine.answers = [[OK[:20], OK[20:-2], OK[-2:]]]
    assert await beats(engine.port, 2) == [True, True]


async def test_silence_is_a_miss_and_the_next_question_comes_on_a_new_connection(
    engine: PlayedEngine,
) -> None:
    engine.answers = [[OK], [OK[:20]], [OK]]
    assert await beats(engine.port, 3) == [True, False, True]
    assert engine.n_connections == 2


async def test_a_hang_up_without_an_answer_is_a_miss(engine: PlayedEngine) -> None:
    engine.answers = [[OK], [OK[:20], None], [OK]]
    assert await beats(engine.port, 3) == [True, False, True]


async def test_a_hang_up_after_the_answer_is_no_miss(engine: PlayedEngine) -> None:
    engine.answers = [[OK, None]]
    assert await beats(engine.port, 3) == [True] * 3
    assert engine.n_connections >= 3


async def test_a_body_is_left_unread_with_its_connection(engine: PlayedEngine) -> None:
    engine.answers = [[WITH_BODY]]
    assert await beats(engine.port, 3) == [True] * 3
    assert engine.n_connections >= 3


async def test_a_head_without_an_end_is_an_answer_too(engine: PlayedEngine) -> None:
    engine.answers = [[b"x" * 20_000]]
    assert await beats(engine.port, 2) == [True, True]


async def test_where_nobody_listens_every_beat_is_missed() -> None:
    assert await beats(pick_free_port(), 2) == [False, False]
