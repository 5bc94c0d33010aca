"""Guards that a read that hangs holds up neither the loop nor its end (facts/gpu.md §3.5)."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from arasul_supervisor.offload import Offload, OffloadQueue


async def test_a_read_that_is_stuck_is_given_up_and_not_doubled() -> None:
    may_go_on = threading.Event()
    offload = Offload("test-stuck-read")
    calls: list[int] = []

    def stuck() -> int:
        calls.append(1)
        may_go_on.wait(10)
        return 1

    first = await offload.call(stuck, timeout_s=0.05)
    second = await offload.call(stuck, timeout_s=0.05)
    may_go_on.set()
    await offload.settle(timeout_s=2)
    third = await offload.call(stuck, timeout_s=2)
    await offload.settle(timeout_s=2)

    assert (first, second, third, len(calls)) == (None, None, 1, 2)


async def test_what_a_read_raises_reaches_its_caller() -> None:
    def broken() -> int:
        raise ValueError("odd file")

    offload = Offload("test-broken-read")
    with pytest.raises(ValueError, match="odd file"):
        await offload.call(broken, timeout_s=2)
    await offload.settle(timeout_s=2)


def test_a_stuck_read_does_not_hold_the_end_of_the_loop() -> None:
    may_go_on = threading.Event()

    async def main() -> None:
        await Offload("test-left-read").call(lambda: may_go_on.wait(10), timeout_s=0.01)

    asyncio.run(main())  # would wait for the thread if it were one of an executor

    assert not may_go_on.is_set()
    may_go_on.set()


async def test_reads_share_one_thread_until_it_is_let_go() -> None:
    offload = Offload("test-standing-thread")

    threads = [await offload.call(threading.get_ident, timeout_s=2) for _ in range(3)]
    await offload.settle(timeout_s=2)
    after = await offload.call(lambda: threading.current_thread().name, timeout_s=2)
    await offload.settle(timeout_s=2)

    assert (len(set(threads)), after) == (1, "test-standing-thread")


async def test_a_read_that_is_stuck_when_the_thread_is_let_go_does_not_hold_later_ones() -> None:
    may_go_on = threading.Event()
    offload = Offload("test-abandoned-read")
    await offload.call(lambda: may_go_on.wait(10), timeout_s=0.01)
    await offload.settle(timeout_s=0.01)

    meanwhile = await offload.call(lambda: "read", timeout_s=2)
    may_go_on.set()
    await offload.settle(timeout_s=2)

    assert meanwhile is None  # never two at once, even so


async def test_calls_in_a_queue_come_in_their_order() -> None:
    queue, seen = OffloadQueue("test-queue"), list[int]()
    await asyncio.gather(*(queue.call(partial(seen.append, n), timeout_s=5) for n in range(20)))
    queue.close()

    assert seen == list(range(20))


async def test_a_call_that_was_given_up_does_not_fail_the_next() -> None:
    may_go_on = threading.Event()
    queue = OffloadQueue("test-queue")
    with pytest.raises(asyncio.TimeoutError):
        await queue.call(lambda: may_go_on.wait(10), timeout_s=0.05)
    waiting = asyncio.create_task(queue.call(lambda: "next", timeout_s=5))
    await asyncio.sleep(0.05)
    may_go_on.set()
    found = await waiting
    queue.close()

    assert found == "next"


async def test_a_call_that_nobody_waits_for_any_more_is_left_out() -> None:
    may_go_on, calls = threading.Event(), list[int]()
    queue = OffloadQueue("test-queue")
    stuck = asyncio.create_task(queue.call(lambda: may_go_on.wait(10), timeout_s=5))
    await asyncio.sleep(0)
    with pytest.raises(asyncio.TimeoutError):
        await queue.call(lambda: calls.append(1), timeout_s=0.05)
    may_go_on.set()
    await stuck
    await queue.call(lambda: None, timeout_s=5)
    queue.close()

    assert calls == []
