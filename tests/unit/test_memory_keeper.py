"""Guards DESIGN §9, memory: what the guard wishes is done, noted in one incident an episode, and told truthfully."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Verdict
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.looking.witnesses import (
    LogLook,
    Look,
    MemoryLook,
    ModelsLook,
    RunnerLook,
    told,
)
from arasul_supervisor.healing.treatment.memory_keeper import MemoryKeeper
from arasul_supervisor.ollama.models import LoadedModel
from tests.unit.healing_desk import Desk
from tests.unit.healing_looks import ENGINE, PROCESS, RUNNER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from arasul_supervisor.supervision.process_looks import Identity

GIB, MIB = 1 << 30, 1 << 20
LOW, ENOUGH = MemoryLook(900 * MIB, 8 * GIB), MemoryLook(4 * GIB, 8 * GIB)  # the floor is 1 GiB
DANGER = MemoryLook(100 * MIB, 8 * GIB, pressure_percent=50.0)
ALREADY = (Cure.RESTART_ENGINE, "engine_restarting is not tried: a GPU in state lost forbids it")


def runner(name: str, *, is_busy: bool = False, is_orphan: bool = False) -> RunnerLook:
    process = replace(PROCESS, identity=(100 + ord(name), 1))
    peers = frozenset({5}) if is_busy else frozenset[int]()
    return replace(RUNNER, process=process, blob=f"sha256:{name}", connections=peers, is_orphan=is_orphan)


class Hands:
    """Notes what is done to whom, and lets go what the test says."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.stays: set[str] = set()
        self.n_at_once = self.n_under_way = 0

    async def unload(self, model: str) -> bool:
        self.n_under_way += 1
        self.n_at_once = max(self.n_at_once, self.n_under_way)
        await asyncio.sleep(0)
        self.n_under_way -= 1
        self.done.append(model)
        return model not in self.stays

    async def end_runners(self, runners: Collection[Identity]) -> None:
        self.done.append(sorted(runners))

    async def apply(self, cure: Cure, verdict: Verdict, history: History) -> None:
        self.done.append(cure)

    def log_tail(self, generation: int) -> tuple[str, ...]:
        return (f"a line of {generation}",)


class Ends:
    """Notes which restart is foreseen."""

    def __init__(self) -> None:
        self.expected: list[tuple[int, str | None]] = []

    def expect_restart(self, generation: int, *, restored_in: str | None) -> None:
        self.expected.append((generation, restored_in))


class Box(Desk):
    """A box whose memory the test sets, looked at every 2 s."""

    def __init__(self) -> None:
        super().__init__()
        self.hands, self.ends, self.history = Hands(), Ends(), History()
        self.keeper = MemoryKeeper(self.hands, self.book, ends=self.ends, limits=Limits())  # type: ignore[arg-type]  # stand-ins
        self.memory = LOW
        self.runners: tuple[RunnerLook, ...] = (runner("a"),)
        self.is_acting = self.is_up = True
        self.own_load: str | None = None
        self.forbidden: Mapping[Cure, str] = {}
        self.log_look = LogLook()

    async def go_on(self, seconds: float) -> list[object]:
        """What was done in these seconds."""
        n_before, end = len(self.hands.done), self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += 2.0
            self.history = self.history.after(self._look())
            await self.keeper.take_turn(self.history, is_acting=self.is_acting, forbidden=self.forbidden)
        return self.hands.done[n_before:]

    def look_on(self, seconds: float) -> None:
        """These seconds are looked at, and nothing is done in them."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += 2.0
            self.history = self.history.after(self._look())
            self.keeper.see(self.history)

    def _look(self) -> Look:
        now = self.clock.now
        if not self.is_up:
            return Look(now, now, None, memory=self.memory)
        names = [one.blob[-1:] for one in self.runners if one.blob and not one.is_orphan]
        listed = ModelsLook(
            tuple(LoadedModel(name, 1, 0, 2048, "", "sha256:m") for name in names),
            dict.fromkeys(names, 300.0),
            {name: frozenset({f"sha256:{name}"}) for name in names},
        )
        return Look(
            now,
            now,
            ENGINE,
            told(self.runners, now),
            told(listed, now),
            memory=self.memory,
            own_load=self.own_load,
            log=self.log_look,
        )


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    opened = Box()
    yield opened
    await opened.book.settle()


async def test_short_memory_unloads_and_is_cured_once_it_is_back(box: Box) -> None:
    assert await box.go_on(40) == ["a"]
    box.memory = ENOUGH
    await box.go_on(2)

    assert (box.only.action, box.only.result) == ("unloaded", "cured")


async def test_the_incident_has_the_log_and_the_witnesses_before_and_after(box: Box) -> None:
    await box.go_on(40)
    box.memory = ENOUGH
    await box.go_on(2)

    assert box.only.log_tail == ("a line of 1",)
    assert (
        box.only.witnesses_before["memory_available_bytes"],
        box.only.witnesses_after["memory_available_bytes"],
    ) == (900 * MIB, 4 * GIB)


async def test_each_episode_is_one_incident(box: Box) -> None:
    await box.go_on(40)
    box.memory = ENOUGH
    await box.go_on(2)
    box.memory = LOW
    await box.go_on(40)

    assert [result for _, result in box.results()] == ["cured", "open"]


async def test_memory_that_comes_back_before_anything_was_done_is_no_incident(box: Box) -> None:
    await box.go_on(20)
    box.memory = ENOUGH
    await box.go_on(2)

    assert box.incidents == []


async def test_whether_memory_is_low_is_told_from_the_first_look_on(box: Box) -> None:
    await box.go_on(2)
    was_low = box.keeper.is_low
    box.memory = ENOUGH
    await box.go_on(2)

    assert (was_low, box.keeper.is_low) == (True, False)


async def test_a_model_that_does_not_go_is_named_in_the_incident(box: Box) -> None:
    box.hands.stays = {"a"}
    await box.go_on(34)

    assert [(step.action, step.detail) for step in box.only.steps][1:] == [
        ("none", "Still loaded afterwards: a.")
    ]


async def test_a_model_that_does_not_go_costs_the_engine_next(box: Box) -> None:
    box.hands.stays = {"a"}

    assert await box.go_on(60) == ["a", Cure.RESTART_ENGINE]


async def test_a_model_that_went_and_came_back_does_not_cost_the_engine(box: Box) -> None:
    assert await box.go_on(120) == ["a"]


async def test_models_are_unloaded_side_by_side(box: Box) -> None:
    box.memory, box.runners = DANGER, (runner("a"), runner("b"), runner("c"))
    await box.go_on(4)

    assert box.hands.n_at_once == 3


async def test_an_orphan_is_ended_first(box: Box) -> None:
    orphan = runner("z", is_orphan=True)
    box.runners = (runner("a"), orphan)

    assert (await box.go_on(40))[0] == [orphan.identity]


async def test_a_model_that_answers_is_left_alone(box: Box) -> None:
    box.runners = (runner("a", is_busy=True),)

    assert await box.go_on(600) == []


@pytest.mark.parametrize("unseen", [False, True], ids=["works", "may work"])
async def test_the_engine_is_not_restarted_under_an_answer_of_a_model_that_nobody_names(
    box: Box, unseen: bool
) -> None:
    nameless = replace(runner("z", is_busy=True), blob=None)
    box.hands.stays = {"a"}
    box.runners = (runner("a"), replace(nameless, connections=None) if unseen else nameless)

    assert await box.go_on(600) == ["a"]


async def test_a_box_about_to_fall_over_restarts_the_engine_under_an_answer(box: Box) -> None:
    box.memory, box.runners = DANGER, (runner("a", is_busy=True),)

    assert await box.go_on(10) == [Cure.RESTART_ENGINE]


async def test_who_only_looks_knows_that_memory_is_short_and_does_nothing(box: Box) -> None:
    box.look_on(600)

    assert (box.keeper.is_low, box.hands.done, box.incidents) == (True, [], [])


async def test_who_only_looks_knows_when_memory_is_back(box: Box) -> None:
    box.look_on(60)
    box.memory = ENOUGH
    box.look_on(2)

    assert not box.keeper.is_low


async def test_nothing_is_freed_while_a_model_is_being_loaded(box: Box) -> None:
    box.own_load = "b"

    assert await box.go_on(600) == []


async def test_what_a_restart_for_memory_had_loaded_does_not_come_back(box: Box) -> None:
    box.hands.stays = {"a"}
    await box.go_on(60)

    assert box.ends.expected == [(1, None)]


async def test_a_restart_that_the_gpu_forbids_is_told_and_not_done(box: Box) -> None:
    box.hands.stays, box.forbidden = {"a"}, dict([ALREADY])

    assert await box.go_on(120) == ["a"]
    assert box.ends.expected == []
    assert any(step.detail.startswith(f"{ALREADY[1]}. Only 900 MiB") for step in box.only.steps)


async def test_an_engine_that_is_down_has_nothing_to_free(box: Box) -> None:
    box.is_up = False

    assert await box.go_on(600) == []
    assert box.incidents == []


async def test_an_engine_that_comes_back_into_short_memory_is_watched_on(box: Box) -> None:
    box.is_up = False
    await box.go_on(60)
    box.is_up = True

    assert await box.go_on(60) != []


async def test_an_episode_during_which_the_engine_ends_is_closed_when_memory_is_back(box: Box) -> None:
    await box.go_on(40)
    box.is_up, box.memory = False, ENOUGH
    await box.go_on(2)

    assert box.only.result == "cured"


async def test_where_nothing_is_left_to_free_that_is_told_once(box: Box) -> None:
    box.runners = ()
    await box.go_on(600)

    assert (box.only.action, len(box.only.steps)) == ("none", 1)


async def test_memory_that_others_gave_back_has_recovered_by_itself(box: Box) -> None:
    box.runners = ()
    await box.go_on(60)
    box.memory = ENOUGH
    await box.go_on(2)

    assert box.only.result == "recovered"


async def test_what_is_loaded_after_nothing_was_left_is_freed_all_the_same(box: Box) -> None:
    box.runners = ()
    await box.go_on(60)
    box.runners = (runner("a"),)

    assert await box.go_on(60) == ["a"]


async def test_who_only_observes_writes_what_the_cure_would_have_been(box: Box) -> None:
    box.is_acting = False

    assert await box.go_on(600) == []
    assert (box.only.result, box.only.action) == ("observed", "unloaded")
    assert box.only.detail == "ARASUL_HEAL=observe: unloaded of a would have been the cure."


async def test_who_only_observes_writes_each_episode_again(box: Box) -> None:
    box.is_acting = False
    await box.go_on(60)
    box.memory = ENOUGH
    await box.go_on(2)
    box.memory = LOW
    await box.go_on(60)

    assert [result for _, result in box.results()] == ["observed", "observed"]


async def test_who_only_observes_leaves_nothing_open(box: Box) -> None:
    box.is_acting, box.runners = False, ()
    await box.go_on(60)
    box.runners = (runner("a"),)
    await box.go_on(60)

    assert [result for _, result in box.results()] == ["observed"]
