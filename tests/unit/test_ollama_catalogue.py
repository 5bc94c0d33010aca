"""Guards CONTRACT §4 `GET /api/models`: kept 30 s, at most one shared call, dropped by every model operation."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio

from arasul_supervisor.errors import EngineDown, EngineSilent
from arasul_supervisor.model_store.reader import StoreReader
from arasul_supervisor.ollama.catalogue import Catalogue, CatalogueView, OnDisk
from arasul_supervisor.ollama.models import InstalledModel
from tests.engine.store import blob_path, install_model, manifest_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one model of a thousand bytes, and its configuration."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"x" * 1000)
    install_model(tmp_path / "store", "tiny", weights)
    return tmp_path / "store"


@pytest_asyncio.fixture
async def reader(store: Path) -> AsyncIterator[StoreReader]:
    reader = StoreReader(store)
    yield reader
    reader.close()


@pytest.fixture
def with_store(ollama: Ollama, clock: HandClock, reader: StoreReader) -> Catalogue:
    return Catalogue(
        cast("OllamaClient", ollama), clock, store=reader
    )  # the double has the call that is used


async def test_what_a_model_takes_on_disk_is_known_by_any_spelling_of_its_name(
    with_store: Catalogue, ollama: Ollama
) -> None:
    asker = asyncio.create_task(with_store.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    view = await asker

    usage = view.usage("registry.ollama.ai/library/Tiny")
    assert usage is not None
    assert (usage.own_bytes > 1000, usage.shared_bytes) == (True, 0)
    assert view.broken == ()


async def test_a_broken_model_is_named_beside_those_that_ollama_lists(
    with_store: Catalogue, ollama: Ollama, store: Path
) -> None:
    await asyncio.to_thread(manifest_path(store, "tiny").write_bytes, b"")
    asker = asyncio.create_task(with_store.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_result([])
    view = await asker

    assert [broken.name for broken in view.broken] == ["tiny:latest"]


async def test_a_store_that_cannot_be_read_makes_no_answer_fail(
    with_store: Catalogue, ollama: Ollama, store: Path
) -> None:
    await asyncio.to_thread(_make_unreadable, store)
    asker = asyncio.create_task(with_store.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    view = await asker

    assert (view.models, view.usage("tiny"), view.broken) == ((TINY,), None, ())


async def test_a_store_that_hangs_makes_no_answer_late(
    with_store: Catalogue, ollama: Ollama, reader: StoreReader
) -> None:
    may_go_on = threading.Event()
    hanging = asyncio.create_task(reader.call(lambda _: may_go_on.wait(10)))
    asker = asyncio.create_task(with_store.models(timeout_s=0.4))
    await ollama.asked(1)
    ollama.calls[0].set_result([TINY])
    view = await asker
    may_go_on.set()
    await hanging

    assert (view.models, view.on_disk) == ((TINY,), None)


async def test_an_answer_that_fails_leaves_no_look_at_the_store_behind(
    with_store: Catalogue, ollama: Ollama
) -> None:
    asker = asyncio.create_task(with_store.models(timeout_s=3))
    await ollama.asked(1)
    ollama.calls[0].set_exception(EngineDown())

    with pytest.raises(EngineDown):
        await asker  # that no task is left is looked at after every test


def test_a_view_without_a_store_knows_nothing_of_the_disk() -> None:
    view = CatalogueView((TINY,), 0.0, is_cached=False)

    assert (view.usage("tiny"), view.broken) == (None, ())


def test_a_view_finds_a_model_by_any_spelling_of_its_name() -> None:
    view = CatalogueView((TINY,), 0.0, is_cached=False, on_disk=OnDisk({}, ()))

    assert (view.model("library/TINY"), view.model("other")) == (TINY, None)


def _make_unreadable(store: Path) -> None:
    """As root, too: a file where the folder of the blobs should be."""
    folder = blob_path(store, "sha256:").parent
    folder.rename(store / "elsewhere")
    folder.touch()
