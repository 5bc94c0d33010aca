"""Guards how the room of healing is wired: loads that it knows and ends, earlier exits, and the order of its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.healing.compose import Healing, Patient, Surroundings
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind, Verdict
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.settings import load_settings
from tests.api.stubs import StubEngine, StubEngineLog, StubLog, StubSampler

if TYPE_CHECKING:
    from pathlib import Path

LOAD_STUCK = Verdict(Kind.LOAD_STUCK, "Its load does not move.", since_mono=0.0, model="a")


@pytest.fixture
def healing(tmp_path: Path) -> Healing:
    return room(tmp_path)


@pytest.fixture
def earlier(tmp_path: Path) -> Healing:
    """The room of an earlier life, with the same state folder."""
    return room(tmp_path)


def room(state_dir: Path) -> Healing:
    """Over parts of which nothing is asked here."""
    settings = load_settings({"HOME": "/nonexistent", "ARASUL_STATE_DIR": str(state_dir)})
    nobody: Any = None  # Any: stands for parts that these tests do not reach
    parts: Any = (StubEngine(), StubEngineLog(), nobody, nobody, nobody, StubSampler())  # Any: stand-ins
    around = Surroundings({}, "marker", lambda _: False, nobody, dict, None)
    return Healing(settings, Patient(*parts), around, clock=SystemClock(), log=StubLog())


async def test_a_load_of_a_callers_is_known_to_the_diagnosis(healing: Healing) -> None:
    with healing.own_loads.under_way("a", print):
        assert healing._own_load() == "a"


async def test_the_cure_of_a_stuck_load_ends_that_of_a_caller(healing: Healing) -> None:
    reasons: list[str] = []
    with healing.own_loads.under_way("a", reasons.append):
        await healing.healer._cures.apply(Cure.CANCEL_LOAD, LOAD_STUCK, History())

    assert reasons == ["its load did not move"]


async def test_a_wish_to_free_memory_does_not_end_the_load_of_a_caller(healing: Healing) -> None:
    reasons: list[str] = []
    with healing.own_loads.under_way("a", reasons.append):
        healing.asked.stop_restoring("POST /api/session/reset")

    assert reasons == []


async def test_its_task_is_over_before_its_parts_are_closed(
    healing: Healing, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def look() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a turn that is under way
            seen.append("the task is over")

    async def close() -> None:
        seen.append("the parts are closed")

    monkeypatch.setattr(healing.healer, "run", look)
    monkeypatch.setattr(healing.healer, "close", close)
    task = asyncio.create_task(healing.run())
    await asyncio.sleep(0)

    await healing.close()

    assert (seen, task.done()) == (["the task is over", "the parts are closed"], True)


async def test_an_exit_of_an_earlier_life_is_read_from_the_disk_and_counts(
    earlier: Healing, healing: Healing
) -> None:
    left = earlier.incidents.open(
        Kind.GPU_UNREACHABLE, what="It is lost.", evidence="It is.", action=Cure.EXIT
    )
    earlier.incidents.add_step(left, Cure.EXIT, "It is lost.")
    await earlier.close()
    await healing.restore()

    assert [cure for cure, _, _ in healing.healer._book.spent.uses] == [Cure.EXIT]
    await healing.close()


async def test_a_room_that_never_ran_can_be_closed(healing: Healing) -> None:
    await healing.close()
