"""Guards ARASUL_RESTORE: what is loaded again after a crash, in which order, and what stops it. The engine's part is
played on its own board; tests/real/test_restoring.py has the real one."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown, EngineRefused, EngineSilent, ModelNotFound
from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedThen
from arasul_supervisor.healing.aftermath.restore_source import Source
from arasul_supervisor.healing.aftermath.restoring import RestoreReport, Restoring
from arasul_supervisor.ollama.models import LoadedModel
from arasul_supervisor.supervision.board import Board
from arasul_supervisor.supervision.snapshot import State, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

LIMIT_S = 5.0
DIED = 4


class Quiet:
    """Keeps the names of what is logged."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def debug(self, event: str, **_fields: object) -> None:
        self.events.append(event)

    info = warning = error = debug


def then(name: str, *, is_pinned: bool = False, context_length: int = 2048) -> LoadedThen:
    return LoadedThen(name, f"sha256:{name}", is_pinned=is_pinned, context_length=context_length)


def now(name: str, *, digest: str = "", context_length: int = 2048) -> LoadedModel:
    return LoadedModel(name, 1, 0, context_length, "", digest or f"sha256:{name}")


@dataclass
class Ground:
    """An Ollama in words: what it has, and what becomes of a load."""

    board: Board = field(default_factory=lambda: Board(Quiet()))
    log: Quiet = field(default_factory=Quiet)
    in_memory: list[LoadedModel] = field(default_factory=list)
    not_installed: set[str] = field(default_factory=set)
    refusals: dict[str, Exception] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    against: dict[str, str] = field(default_factory=dict)
    is_memory_low: bool = False
    moves: int = 0
    asked: list[LoadedThen] = field(default_factory=list)
    told: asyncio.Queue[RestoreReport] = field(default_factory=asyncio.Queue)

    def change(self, **changes: object) -> None:
        """The engine as it is from now on."""
        self.board.change(**changes)
        self.board.publish()

    def come_up(self, generation: int = DIED + 1) -> None:
        self.change(state=State.RUNNING, wanted=Wanted.UP, generation=generation)

    def go_down(self) -> None:
        self.change(state=State.BACKOFF)

    async def load(self, model: LoadedThen) -> object:
        self.asked.append(model)
        while model.name in self.stuck:  # noqa: ASYNC110 - it never ends by itself
            await asyncio.sleep(0.01)
        if model.name in self.refusals:
            raise self.refusals[model.name]
        self.in_memory = [one for one in self.in_memory if one.name != model.name] + [now(model.name)]
        return None

    async def loaded(self) -> Sequence[LoadedModel]:
        return list(self.in_memory)

    async def is_installed(self, name: str) -> bool:
        return name not in self.not_installed

    async def mark(self) -> object:
        return self.moves

    async def has_asked(self, name: str) -> None:
        """Wait until that model is being loaded."""
        deadline_mono = time.monotonic() + LIMIT_S
        while name not in self.loads:
            assert time.monotonic() < deadline_mono
            await asyncio.sleep(0.001)

    async def report(self) -> RestoreReport:
        return await asyncio.wait_for(self.told.get(), LIMIT_S)

    @property
    def loads(self) -> list[str]:
        return [model.name for model in self.asked]


@asynccontextmanager
async def restoring_on(ground: Ground, *, stall_s: float = 60.0) -> AsyncIterator[Restoring]:
    ground.change(state=State.BACKOFF, wanted=Wanted.UP, generation=DIED)
    restoring = Restoring(
        ground.board,
        Source(ground.load, ground.loaded, ground.is_installed, ground.mark),
        reason_against=ground.against.get,
        is_memory_low=lambda: ground.is_memory_low,
        told=ground.told.put_nowait,
        clock=SystemClock(),
        log=ground.log,
        head_start_s=0.01,
        stall_s=stall_s,
        look_every_s=0.01,
    )
    try:
        yield restoring
    finally:
        await restoring.close()


async def after_crash(ground: Ground, *models: LoadedThen) -> RestoreReport:
    async with restoring_on(ground) as restoring:
        restoring.begin(models, died_generation=DIED)
        ground.come_up()
        return await ground.report()


async def test_the_models_come_back_in_their_order() -> None:
    ground = Ground()

    report = await after_crash(ground, then("b"), then("a"))

    assert (ground.loads, report.restored) == (["b", "a"], ("b", "a"))


async def test_they_are_loaded_as_they_lay_in_memory() -> None:
    ground = Ground()

    await after_crash(ground, then("a", is_pinned=True, context_length=512))

    assert ground.asked == [then("a", is_pinned=True, context_length=512)]


async def test_nothing_is_loaded_before_a_new_engine_answers() -> None:
    ground = Ground()
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.change(state=State.RUNNING)  # a late word of the engine that died

        await asyncio.sleep(0.05)

        assert ground.loads == []


async def test_nothing_was_loaded_so_nothing_is_begun() -> None:
    ground = Ground()
    async with restoring_on(ground) as restoring:
        restoring.begin([], died_generation=DIED)

        assert not restoring.is_running


async def test_a_quarantined_model_is_skipped_with_its_reason() -> None:
    ground = Ground(against={"a": "a made Ollama crash 2 times within an hour."})

    report = await after_crash(ground, then("a"), then("b"))

    assert (report.skipped, report.restored) == ({"a": "a made Ollama crash 2 times within an hour."}, ("b",))


async def test_a_model_that_is_not_installed_any_more_is_skipped() -> None:
    ground = Ground(not_installed={"a"})

    report = await after_crash(ground, then("a"), then("b"))

    assert (report.skipped, ground.loads) == ({"a": "it is not installed any more"}, ["b"])


async def test_a_model_that_goes_just_before_its_load_is_skipped() -> None:
    ground = Ground(refusals={"a": ModelNotFound()})

    report = await after_crash(ground, then("a"), then("b"))

    assert (report.skipped, report.failed) == ({"a": "it is not installed any more"}, {})


@pytest.mark.parametrize(
    "there",
    [now("a"), now("a:latest", digest="x"), now("other", digest="sha256:a")],
    ids=["same name", "its full name", "another name of it"],
)
async def test_a_model_that_a_caller_has_loaded_meanwhile_is_left_alone(there: LoadedModel) -> None:
    ground = Ground(in_memory=[there])

    report = await after_crash(ground, then("a"))

    assert (report.skipped, ground.loads) == ({"a": "it is loaded already"}, [])


async def test_a_pinned_model_that_a_caller_has_loaded_meanwhile_is_pinned_as_it_is() -> None:
    ground = Ground(in_memory=[now("a", context_length=8192)])

    await after_crash(ground, then("a", is_pinned=True))

    assert ground.asked == [then("a", is_pinned=True, context_length=8192)]


async def test_a_failing_load_is_told_and_the_next_goes_on() -> None:
    ground = Ground(refusals={"a": EngineRefused("Ollama refused to load 'a': out of memory.")})

    report = await after_crash(ground, then("a"), then("b"))

    assert (report.failed, report.restored) == ({"a": "Ollama refused to load 'a': out of memory."}, ("b",))


async def test_a_failing_load_is_a_warning_in_the_log() -> None:
    ground = Ground(refusals={"a": EngineRefused("no")})

    await after_crash(ground, then("a"))

    assert "model_not_restored" in ground.log.events


async def test_low_memory_stops_it() -> None:
    ground = Ground(is_memory_low=True)

    report = await after_crash(ground, then("a"), then("b"))

    assert (ground.loads, report.skipped) == ([], {"a": "memory is low", "b": "memory is low"})


async def test_a_load_that_drives_out_another_one_of_ours_is_the_last() -> None:
    class Small(Ground):
        async def load(self, model: LoadedThen) -> object:
            self.in_memory.clear()
            return await super().load(model)

    ground = Small()

    report = await after_crash(ground, then("a"), then("b"), then("c"))

    assert report.skipped == {"c": "there may be no room: a was unloaded again meanwhile"}


async def test_a_load_without_progress_is_ended_and_the_next_goes_on() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground, stall_s=0.05) as restoring:
        restoring.begin([then("a"), then("b")], died_generation=DIED)
        ground.come_up()
        report = await ground.report()

    assert report.restored == ("b",)
    assert report.failed["a"].startswith("The load of a has made no progress for")


async def test_a_load_that_moves_is_waited_for() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground, stall_s=0.2) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.come_up()
        await ground.has_asked("a")
        for _ in range(40):
            ground.moves += 1
            await asyncio.sleep(0.01)  # twice the stall time in all
        ground.stuck.clear()
        report = await ground.report()

    assert report.restored == ("a",)


async def test_it_says_what_it_is_loading_now() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.come_up()
        await ground.has_asked("a")
        while_loading = restoring.own_load
        ground.stuck.clear()
        await ground.report()

        assert (while_loading, restoring.own_load) == ("a", None)


async def test_a_cancel_ends_the_load_under_way_and_all_that_would_follow() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a"), then("b")], died_generation=DIED)
        ground.come_up()
        await ground.has_asked("a")
        restoring.cancel("its load did not move")
        report = await ground.report()

        assert report.skipped == {"a": "its load did not move", "b": "its load did not move"}
        assert (ground.loads, restoring.own_load) == (["a"], None)


async def test_a_cancel_before_the_first_turn_is_told_too() -> None:
    ground = Ground()
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        restoring.cancel("an operator said so")
        report = await ground.report()

    assert report == RestoreReport(DIED, skipped={"a": "an operator said so"})


@pytest.mark.parametrize(
    "end", [{"wanted": Wanted.DOWN}, {"state": State.FATAL}], ids=["stopped by an operator", "given up"]
)
async def test_it_does_not_outlast_an_engine_that_is_not_started_again(end: dict[str, object]) -> None:
    ground = Ground()
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.change(**end)
        report = await ground.report()
        ground.come_up()
        await asyncio.sleep(0.05)

    assert (report.skipped, ground.loads) == ({"a": "Ollama was not started again"}, [])


async def crash_over(ground: Ground, name: str) -> RestoreReport:
    """The engine ends over that load."""
    await ground.has_asked(name)
    ground.refusals[name] = EngineDown()
    ground.stuck.discard(name)
    await asyncio.sleep(0.02)  # the connection breaks before the death is seen
    ground.go_down()
    report = await ground.report()
    del ground.refusals[name]
    return report


async def test_an_engine_that_ends_again_stops_it() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a"), then("b")], died_generation=DIED)
        ground.come_up()
        report = await crash_over(ground, "a")

    again = "Ollama ended again before its turn"
    assert (report.skipped, report.failed) == ({"a": again, "b": again}, {})


async def test_what_a_crash_cut_short_is_done_after_that_crash() -> None:
    ground = Ground(stuck={"b"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a"), then("b"), then("c")], died_generation=DIED)
        ground.come_up()
        await crash_over(ground, "b")
        ground.in_memory.clear()
        restoring.begin([then("x")], died_generation=DIED + 1)
        ground.come_up(DIED + 2)
        report = await ground.report()

    assert report.restored == ("x", "a", "b", "c")


async def test_what_was_cut_short_is_forgotten_when_another_engine_came_between() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a"), then("b")], died_generation=DIED)
        ground.come_up()
        await crash_over(ground, "a")
        restoring.begin([then("x")], died_generation=DIED + 2)  # an operator's restart, then a crash
        ground.come_up(DIED + 3)
        report = await ground.report()

    assert report.restored == ("x",)


async def test_a_start_that_fails_meanwhile_takes_nothing_away() -> None:
    ground = Ground()
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.change(generation=DIED + 1)
        restoring.begin([], died_generation=DIED + 1)
        ground.come_up(DIED + 2)
        reports = [await ground.report(), await ground.report()]

    assert [report.restored for report in reports] == [(), ("a",)]


async def test_a_load_that_the_death_of_the_engine_has_cut_twice_is_not_begun_again() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a"), then("b")], died_generation=DIED)
        for n in (1, 2):
            ground.stuck.add("a")
            ground.asked.clear()
            ground.come_up(DIED + n)
            await crash_over(ground, "a")
            restoring.begin([], died_generation=DIED + n)
        ground.come_up(DIED + 3)
        report = await ground.report()

    assert report.skipped == {"a": "Ollama has ended or fallen silent 2 times while it was loaded again"}
    assert report.restored == ("b",)


async def test_a_silent_engine_is_waited_for() -> None:
    ground = Ground(refusals={"a": EngineSilent()})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.come_up()
        await ground.has_asked("a")
        ground.change(is_frozen=True)
        await asyncio.sleep(0.02)
        del ground.refusals["a"]
        ground.change(is_frozen=False)
        report = await ground.report()

    assert report == RestoreReport(DIED, ("a",))


async def test_the_end_of_the_daemon_ends_it_and_tells_nobody() -> None:
    ground = Ground(stuck={"a"})
    async with restoring_on(ground) as restoring:
        restoring.begin([then("a")], died_generation=DIED)
        ground.come_up()
        await ground.has_asked("a")

    assert ground.told.empty()


def test_the_report_is_a_sentence_for_each() -> None:
    report = RestoreReport(DIED, ("a", "b"), {"c": "it is loaded already"}, {"d": "Ollama refused it."})

    assert report.sentence == ("Loaded again: a, b. Not c: it is loaded already. Not d: Ollama refused it.")
