"""Guards that as many pulls run as may, and that who lent its slot gets one before those that have not begun."""

from __future__ import annotations

import asyncio

from arasul_supervisor.bounded import end_task
from arasul_supervisor.ollama.pulls.slots import Slots


def test_there_are_as_many_as_were_asked_for() -> None:
    slots = Slots(2)

    assert [slots.take() for _ in range(3)] == [True, True, False]


def test_one_that_is_given_back_can_be_taken() -> None:
    slots = Slots(1)
    slots.take()
    slots.give_back()

    assert slots.is_free
    assert slots.take()


async def test_who_comes_back_waits_in_order_and_goes_first() -> None:
    slots, came = Slots(1), list[str]()
    slots.take()

    async def come_back(name: str) -> None:
        await slots.take_again()
        came.append(name)

    waiting = [asyncio.create_task(come_back(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    slots.give_back()
    is_free = slots.take()
    await asyncio.sleep(0)
    slots.give_back()
    await asyncio.gather(*waiting)

    assert (came, is_free) == (["first", "second"], False)


async def test_one_that_leaves_while_it_waits_takes_none_along() -> None:
    slots = Slots(1)
    slots.take()
    waiting = asyncio.create_task(slots.take_again())
    await asyncio.sleep(0)
    await end_task(waiting)
    slots.give_back()

    assert slots.is_free


async def test_one_that_leaves_as_its_turn_comes_gives_it_on() -> None:
    slots = Slots(1)
    slots.take()
    waiting = asyncio.create_task(slots.take_again())
    await asyncio.sleep(0)
    slots.give_back()
    await end_task(waiting)

    assert slots.is_free
