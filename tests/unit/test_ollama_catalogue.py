"""Guards CONTRACT §4 `GET /api/models`: kept 30 s, at most one shared call, dropped by every model operation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from arasul_supervisor.errors import EngineDown, EngineSilent
from arasul_supervisor.ollama.catalogue import Catalogue
from arasul_supervisor.ollama.models import InstalledModel

if TYPE_CHECKING:
    from arasul_supervisor.ollama.client import OllamaClient

TINY = InstalledModel("tiny:latest", 1, "", "sha256:ab")
OTHER = InstalledModel("other:latest", 2, "", "sha256:cd")


class HandClock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def mono(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Ollama:
    """Stands in for the client: each call waits for `answer` or `fail`."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[list[InstalledModel]]] = []
        self._called = asyncio.Condition()

    async def tags(self, *, timeout_s: float) -> list[InstalledModel]:
        call: asyncio.Future[list[InstalledModel]] = asyncio.get_running_loop().create_future()
        self.calls.append(call)
        async with self._called:
            self._called.notify_all()
        return await call

    async def asked(self, times: int) -> None:
        async with self._called:
            await asyncio.wait_for(self._called.wait_for(lambda: len(self.calls) >= times), 5)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ollama() -> Ollama:
    return Ollama()


@pytest.fixture
def catalogue(ollama: Ollama, clock: HandClock) -> Catalogue:
    return Catalogue(cast("OllamaClient", ollama), clock)  # the double has the one call that is used


async def test_a_thousand_askers_make_one_call(catalogue: Catalogue, ollama: Ollama) -> None:
    askers = [asyncio.create_task(catalogue.models(timeout_s=3)) for _ in range(1000)]
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    views = await asyncio.gather(*askers)

    assert len(ollama.calls) == 1
    assert {view.models for view in views} == {(TINY,)}


async def test_an_asker_that_leaves_does_not_disturb_the_others(catalogue: Catalogue, ollama: Ollama) -> None:
    first = asyncio.create_task(catalogue.models(timeout_s=3))
    second = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    first.cancel()
    ollama.calls[0].set_result([TINY])

    assert (await second).models == (TINY,)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_was_answered_is_kept_for_thirty_seconds(
    catalogue: Catalogue, ollama: Ollama, clock: HandClock
) -> None:
    asker = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    fresh = await asker
    clock.now += 29.9
    kept = await catalogue.models(timeout_s=3)
    clock.now += 0.1
    asker = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(2)
    ollama.calls[1].set_result([OTHER])
    anew = await asker

    assert (fresh.is_cached, kept.is_cached, anew.is_cached) == (False, True, False)
    assert kept.age_s == pytest.approx(29.9)
    assert anew.models == (OTHER,)


async def test_an_answer_asked_for_before_a_change_does_not_count_as_fresh(
    catalogue: Catalogue, ollama: Ollama
) -> None:
    early = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    catalogue.invalidate()
    late = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(2)
    ollama.calls[1].set_result([OTHER])
    ollama.calls[0].set_result([TINY])

    assert (await early).models == (TINY,)
    assert (await late).models == (OTHER,)
    assert catalogue.known == (OTHER,)
    assert (await catalogue.models(timeout_s=3)).is_cached


async def test_a_failed_refresh_is_told_and_the_memory_stays(
    catalogue: Catalogue, ollama: Ollama, clock: HandClock
) -> None:
    asker = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    await asker
    clock.now += 31.0
    askers = [asyncio.create_task(catalogue.models(timeout_s=3)) for _ in range(3)]
    await ollama.asked(2)
    ollama.calls[1].set_exception(EngineDown())
    outcomes = await asyncio.gather(*askers, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [EngineDown] * 3
    assert catalogue.known == (TINY,)
    assert catalogue.known_age_s == 31.0


async def test_an_askers_own_bound_ends_its_wait_only(catalogue: Catalogue, ollama: Ollama) -> None:
    patient = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    with pytest.raises(EngineSilent):
        await catalogue.models(timeout_s=0.01)
    ollama.calls[0].set_result([TINY])

    assert (await patient).models == (TINY,)


async def test_nothing_is_known_before_the_first_answer(catalogue: Catalogue) -> None:
    assert catalogue.known == ()
    assert catalogue.known_age_s is None


async def test_closing_ends_the_call_and_tells_its_askers(catalogue: Catalogue, ollama: Ollama) -> None:
    asker = asyncio.create_task(catalogue.models(timeout_s=3))
    await ollama.asked(1)
    await catalogue.close()

    with pytest.raises(EngineDown):
        await asker
