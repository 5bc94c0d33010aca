"""Guards DESIGN §9: what the looks have shown over time counts only what was watched, and what moved breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.history.stillness import FREE_BYTES, Stillness
from arasul_supervisor.healing.looking.witnesses import Answering, Witness
from tests.unit.healing_looks import (
    BUSY,
    ENGINE,
    FULL_QUEUE,
    LISTED,
    PROCESS,
    RUNNER,
    after,
    every_two_seconds,
    only,
    seen,
)

if TYPE_CHECKING:
    from arasul_supervisor.healing.looking.witnesses import Look

READ = replace(ENGINE, unread_bytes=0)


@pytest.mark.parametrize(
    ("change", "is_still"),
    [
        ({}, True),
        ({"cpu_ticks": 2}, True),
        ({"cpu_ticks": 3}, False),
        ({"major_faults": 1}, False),
        ({"is_runnable": True}, False),
        ({"moved_bytes": 2 * FREE_BYTES}, True),  # 4096 at once and 4096 for the one second
        ({"moved_bytes": 2 * FREE_BYTES + 1}, False),
        ({"moved_bytes": None}, True),
        ({"identity": (7, 101)}, False),
        ({"state": "t"}, False),
    ],
    ids=str,
)
def test_a_process_is_still_unless_one_of_its_counters_moved(
    change: dict[str, object], is_still: bool
) -> None:
    look = replace(PROCESS, **change)  # type: ignore[arg-type]  # the table's fields are those of the look

    assert (Stillness(PROCESS).after(look, 1.0).for_s > 0) is is_still


def test_the_questions_of_a_day_do_not_end_a_stillness() -> None:
    still = Stillness(PROCESS)
    for second in range(0, 86_400, 2):
        asked = replace(PROCESS, cpu_ticks=second // 25, moved_bytes=245 * second)
        still = still.after(asked, 2.0)

    assert still.for_s == 86_400


def test_a_look_that_failed_keeps_a_stillness() -> None:
    assert Stillness(PROCESS, 40.0).after(None, 2.0) == Stillness(PROCESS, 40.0)


@pytest.mark.parametrize(
    ("gap_s", "ahead_s"),
    [(15.1, 0.0), (600.0, 0.0), (2.0, 5.1), (2.0, -3600.0)],
    ids=["just too late", "a paused machine", "a clock that stepped", "a clock that was set back"],
)
def test_an_interruption_begins_everything_anew(gap_s: float, ahead_s: float) -> None:
    history = after(*(seen(at, BUSY) for at in (0.0, 2.0, 4.0)), seen(4.0 + gap_s, BUSY, ahead_s=ahead_s))

    assert (only(history).unmoved_s, history.gap_mono) == (0.0, 4.0 + gap_s)


@pytest.mark.parametrize(("away_s", "unmoved_s"), [(25.0, 9.0), (24.9, 0.0)], ids=["all", "not all"])
def test_what_our_own_cures_took_is_no_interruption(away_s: float, unmoved_s: float) -> None:
    late_s = 40.0  # 15 s more than 25 s of cures is no gap yet; a late look counts for 5 s

    history = after(*(seen(at, BUSY) for at in (0.0, 2.0, 4.0))).after(
        seen(4.0 + late_s, BUSY), away_s=away_s
    )

    assert only(history).unmoved_s == unmoved_s


def test_a_late_look_counts_for_five_seconds() -> None:
    history = after(seen(0.0, BUSY), seen(14.0, BUSY))

    assert only(history).unmoved_s == 5.0


def test_counters_that_stood_are_forgotten_when_nobody_asks_any_more() -> None:
    history = after(*(seen(at, BUSY) for at in (0.0, 2.0, 4.0)), seen(6.0, RUNNER), seen(8.0, RUNNER))

    assert only(history).unmoved_s == 0.0


def test_what_went_by_before_the_first_sign_of_a_stop_does_not_count() -> None:
    stopped = replace(RUNNER, process=replace(PROCESS, state="T"))

    history = after(seen(0.0, RUNNER), seen(5.0, stopped), seen(7.0, stopped))

    assert only(history).stopped_s == 2.0


def test_what_went_by_before_the_first_sign_that_the_engine_is_stopped_does_not_count() -> None:
    assert ENGINE.process is not None
    stopped = replace(ENGINE, process=replace(ENGINE.process, state="T"))

    history = after(seen(0.0), seen(5.0, engine=stopped), seen(7.0, engine=stopped))

    assert history.engine is not None and history.engine.stopped_s == 2.0


def test_what_went_by_before_the_first_missed_beat_does_not_count() -> None:
    silent = replace(ENGINE, missed_beats=1)

    history = after(seen(0.0), seen(5.0, engine=silent), seen(7.0, engine=replace(silent, missed_beats=3)))

    assert history.engine is not None and history.engine.silent_s == 2.0


def test_an_engine_that_a_debugger_holds_is_not_silent() -> None:
    assert ENGINE.process is not None
    held = replace(ENGINE, missed_beats=9, process=replace(ENGINE.process, state="t"))

    history = after(*(seen(at, engine=held) for at in (0.0, 2.0, 4.0)))

    assert history.engine is not None and history.engine.silent_s == 0.0


def test_a_model_is_past_its_time_by_the_clock_of_ollamas_timers() -> None:
    left = {at: replace(LISTED, expires_in_s={"a:latest": 3.0 - at}) for at in (0.0, 2.0, 4.0, 6.0)}

    history = after(*(seen(at, RUNNER, models=models, engine=READ) for at, models in left.items()))

    assert history.past_s == {"a:latest": 4.0}


@pytest.mark.parametrize(
    ("unread_bytes", "past_s"),
    [(0, 8.0), (1, 2.0), (None, 6.0)],
    ids=["all read", "one does not", "nobody looked"],
)
def test_a_model_past_its_time_counts_while_all_clients_read(unread_bytes: int | None, past_s: float) -> None:
    past, held = replace(LISTED, expires_in_s={"a:latest": -1.0}), replace(ENGINE, unread_bytes=unread_bytes)

    history = after(
        *(seen(at, RUNNER, models=past, engine=READ) for at in (0.0, 2.0, 4.0)),
        seen(6.0, RUNNER, models=past, engine=held),
        seen(8.0, RUNNER, models=past, engine=READ),
    )

    assert history.past_s == {"a:latest": past_s}


def test_a_laptop_that_slept_puts_no_model_past_its_time() -> None:
    slept_s = 28_800.0
    late = replace(LISTED, expires_in_s={"a:latest": 30.0 - 2.0 - slept_s})

    history = after(
        seen(0.0, RUNNER, models=LISTED),
        *(seen(2.0 + at, RUNNER, models=late, ahead_s=slept_s) for at in (0.0, 2.0, 4.0)),
    )

    assert history.past_s == {}


def test_a_date_that_is_first_seen_after_the_sleep_is_taken_for_older_than_it() -> None:
    slept_s = 28_800.0
    late = replace(LISTED, expires_in_s={"a:latest": 30.0 - slept_s})

    history = after(
        seen(0.0, RUNNER), *(seen(2.0 + at, RUNNER, models=late, ahead_s=slept_s) for at in (0.0, 2.0, 4.0))
    )

    assert history.past_s == {}


@pytest.mark.parametrize(
    ("ticks", "nothing_works_s"), [(2, 0.0), (1, 604.0)], ids=["a request", "our questions"]
)
def test_a_short_request_after_a_long_rest_shows_that_something_works(
    ticks: int, nothing_works_s: float
) -> None:
    served = replace(RUNNER, process=replace(PROCESS, cpu_ticks=ticks))

    history = after(*(seen(2.0 * n, RUNNER) for n in range(302)), seen(604.0, served))

    assert history.nothing_works_s == nothing_works_s


def test_an_engine_that_misses_a_beat_shows_nothing_about_its_scheduler() -> None:
    silent = replace(ENGINE, missed_beats=1)

    history = after(*(seen(at, RUNNER) for at in (0.0, 2.0, 4.0)), seen(6.0, RUNNER, engine=silent))

    assert history.nothing_works_s == 0.0


def test_proc_that_cannot_be_read_leaves_the_runners_as_they_were() -> None:
    unread = replace(seen(4.0), runners=Witness(None, None, "/proc did not answer in time"))

    history = after(seen(0.0, BUSY), seen(2.0, BUSY), unread)

    assert only(history).unmoved_s == 2.0


@pytest.mark.parametrize(
    ("port", "answering", "is_loading"),
    [
        (30_000, Answering.LOADING, True),
        (30_000, Answering.CLOSED, True),
        (30_000, Answering.READY, False),
        (None, Answering.UNASKED, False),
    ],
    ids=["loading", "does not listen yet", "ready", "no port to ask at"],
)
def test_a_runner_loads_until_it_says_that_it_is_ready(
    port: int | None, answering: Answering, is_loading: bool
) -> None:
    assert only(after(seen(0.0, replace(RUNNER, port=port, answering=answering)))).is_loading is is_loading


def test_another_generation_begins_everything_anew() -> None:
    history = after(seen(0.0, BUSY), seen(2.0, BUSY), seen(4.0, BUSY, engine=replace(ENGINE, generation=2)))

    assert only(history).unmoved_s == 0.0


def test_a_runner_of_weights_that_a_newer_version_replaced_is_not_unlisted() -> None:
    newer = replace(
        LISTED, blobs={"a:latest": frozenset({"sha256:b"})}, installed_blobs=frozenset({"sha256:b"})
    )

    history = after(*(seen(at, RUNNER, models=newer) for at in (0.0, 2.0, 4.0)))

    assert only(history).unlisted_s == 0.0


@pytest.mark.parametrize(
    ("looks", "needs"),
    [
        (every_two_seconds(4.0, RUNNER), False),
        (every_two_seconds(4.0, RUNNER, models=replace(LISTED, expires_in_s={"a:latest": -1.0})), True),
        (every_two_seconds(4.0, RUNNER, log=FULL_QUEUE), True),
        (every_two_seconds(4.0, BUSY, log=FULL_QUEUE), False),
        (every_two_seconds(4.0, RUNNER, own_load="b:latest"), True),
    ],
    ids=[
        "all is well",
        "a model is past its time",
        "the queue is full",
        "but a runner works",
        "a load of ours waits",
    ],
)
def test_what_clients_have_not_read_is_needed_where_something_waits_for_nothing(
    looks: list[Look], needs: bool
) -> None:
    assert after(*looks).needs_unread is needs


def test_a_client_that_has_read_at_last_shows_that_something_works() -> None:
    looks = every_two_seconds(4.0, RUNNER, log=FULL_QUEUE, engine=READ)
    held = replace(seen(6.0, RUNNER, engine=replace(ENGINE, unread_bytes=1)), log=FULL_QUEUE)

    history = after(*looks, held, replace(seen(8.0, RUNNER, engine=READ), log=FULL_QUEUE))

    assert history.nothing_works_s == 2.0
