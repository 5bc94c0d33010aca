"""Guards DESIGN §9: no runner is called sick by one witness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind
from arasul_supervisor.healing.looking.witnesses import Answering, GpuLook, Witness
from tests.unit.healing_looks import (
    ASKED_29,
    BUSY,
    LISTED,
    OLD,
    ON_GPU,
    PINNED,
    PROCESS,
    RUNNER,
    SILENT,
    WALL,
    certain,
    every_two_seconds,
    said,
    seen,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.healing.looking.witnesses import ModelsLook
    from arasul_supervisor.supervision.process_looks import ProcessLook


def test_nothing_is_wrong_before_the_first_look() -> None:
    assert verdicts([]) == []


@pytest.mark.parametrize(("for_s", "is_stuck"), [(58.0, False), (60.0, True)])
def test_counters_and_processor_that_stand_for_a_minute_are_a_stuck_thread(
    for_s: float, is_stuck: bool
) -> None:
    assert verdicts(every_two_seconds(for_s, BUSY)) == (certain(Kind.RUNNER_STUCK) if is_stuck else [])


def test_a_verdict_names_its_evidence_with_figures() -> None:
    (verdict,) = said(every_two_seconds(60.0, BUSY))

    assert verdict.evidence == (
        "The runner 7 of a:latest works on a request, and its counters in /slots have stood for 60 s; it has not "
        "computed for 60 s."
    )


def test_counters_that_stand_while_it_computes_are_no_sign() -> None:
    looks = [
        seen(at, replace(BUSY, process=replace(PROCESS, cpu_ticks=int(100 * at))), models=PINNED)
        for at in map(float, range(0, 900, 2))
    ]

    assert verdicts(looks) == []


@pytest.mark.parametrize(
    ("for_s", "threads", "load", "is_stuck"),
    [(598.0, 1, 0.0, False), (600.0, 1, 0.0, True), (900.0, 2, 0.0, False), (900.0, 1, 90.0, False)],
    ids=["for less than ten minutes", "for ten minutes", "two threads work", "the GPU works"],
)
def test_one_thread_that_spins_before_a_gpu_that_rests_is_stuck_after_ten_minutes(
    for_s: float, threads: int, load: float, is_stuck: bool
) -> None:
    models = replace(ON_GPU, expires_in_s={"a:latest": 1e10})
    looks = [
        replace(
            seen(
                at, replace(BUSY, process=replace(PROCESS, cpu_ticks=int(100 * threads * at))), models=models
            ),
            gpu=GpuLook("ok", True, True, load, ""),
        )
        for at in map(float, range(0, int(for_s) + 1, 2))
    ]

    assert verdicts(looks) == (certain(Kind.RUNNER_STUCK) if is_stuck else [])


def test_slots_that_rest_beside_an_open_connection_are_a_client_that_does_not_read() -> None:
    assert BUSY.slots is not None
    unread = replace(BUSY, slots=replace(BUSY.slots, is_busy=False))

    assert verdicts(every_two_seconds(3600.0, unread)) == []


@pytest.mark.parametrize(
    ("for_s", "load", "expected"),
    [
        (60.0, 0.0, certain(Kind.RUNNER_STUCK)),
        (598.0, None, []),
        (600.0, None, certain(Kind.RUNNER_STUCK)),
        (598.0, 90.0, []),
        (600.0, 90.0, certain(Kind.RUNNER_STUCK)),
    ],
    ids=[
        "the GPU rests",
        "nobody knows of the GPU",
        "nobody knows of it for ten minutes",
        "the GPU works",
        "the GPU works for ten minutes",
    ],
)
def test_a_gpu_that_may_be_busy_makes_slots_that_stand_wait_for_longer(
    for_s: float, load: float | None, expected: list[tuple[Kind, Certainty]]
) -> None:
    assert verdicts(every_two_seconds(for_s, BUSY, models=ON_GPU, gpu_load=load)) == expected


@pytest.mark.parametrize(
    ("state", "models", "is_waited_for"),
    [
        ("none", None, False),
        ("no_driver", None, False),
        ("unknown", None, True),
        ("unknown", PINNED, False),
        ("unknown", ON_GPU, True),
    ],
    ids=[
        "no GPU",
        "no driver",
        "nobody lists the model",
        "the model is on the CPU",
        "the model is on the GPU",
    ],
)
def test_slots_that_stand_wait_for_a_gpu_only_where_the_model_may_be_on_one(
    state: str, models: ModelsLook | None, is_waited_for: bool
) -> None:
    gpu = GpuLook(state, False, False, None, "")
    looks = [replace(look, gpu=gpu) for look in every_two_seconds(60.0, BUSY, models=models)]

    assert verdicts(looks) == ([] if is_waited_for else certain(Kind.RUNNER_STUCK))


@pytest.mark.parametrize(
    ("for_s", "models", "load", "expected"),
    [
        (158.0, PINNED, "none", []),
        (160.0, PINNED, "none", certain(Kind.RUNNER_STUCK)),
        (160.0, replace(ON_GPU, expires_in_s={"a:latest": 1e10}), 0.0, certain(Kind.RUNNER_STUCK)),
        (3600.0, replace(ON_GPU, expires_in_s={"a:latest": 1e10}), 90.0, []),
        (
            160.0,
            replace(ON_GPU, expires_in_s={"a:latest": 1e10}),
            None,
            [(Kind.RUNNER_STUCK, Certainty.SUSPECTED)],
        ),
        (60.0, replace(LISTED, expires_in_s={"a:latest": -1.0}), "none", certain(Kind.RUNNER_STUCK)),
    ],
    ids=[
        "perhaps a kept connection",
        "longer than one is kept",
        "the GPU rests",
        "the GPU works",
        "nobody knows of the GPU",
        "Ollama wants it unloaded",
    ],
)
def test_an_open_request_of_0_29_needs_a_still_runner_and_a_still_gpu(
    for_s: float, models: ModelsLook, load: float | str | None, expected: list[tuple[Kind, Certainty]]
) -> None:
    engine = replace(OLD, unread_bytes=0)
    looks = every_two_seconds(for_s, ASKED_29, models=models, engine=engine, gpu_load=load)

    assert verdicts(looks) == expected


def test_a_list_that_is_old_does_not_shorten_the_wait_for_an_open_request_of_0_29() -> None:
    past = replace(LISTED, expires_in_s={"a:latest": -1.0})
    looks = every_two_seconds(60.0, ASKED_29, models=past, engine=replace(OLD, unread_bytes=0))
    asked_last = looks[-1].models

    later = [replace(looks[-1], now_mono=at, now_wall=WALL + at, models=asked_last) for at in (74.0, 76.0)]

    assert [bool(verdicts([*looks, later[0]])), bool(verdicts([*looks, *later]))] == [True, False]


def test_an_answer_that_is_not_read_holds_up_a_runner_of_0_29() -> None:
    unread = replace(ASKED_29, unread_bytes=60_000)

    assert verdicts(every_two_seconds(3600.0, unread, models=PINNED, engine=OLD)) == []


def test_a_connection_that_is_used_again_and_again_is_no_open_request() -> None:
    at_work = [
        replace(
            seen(
                at, replace(ASKED_29, process=replace(PROCESS, cpu_ticks=100 * int(at // 80))), models=PINNED
            )
        )
        for at in map(float, range(0, 1200, 2))
    ]

    assert verdicts(at_work) == []


@pytest.mark.parametrize(("state", "for_s"), [("T", 16.0), ("D", 16.0), ("S", 60.0)])
def test_a_silent_runner_is_frozen_when_the_kernel_says_so_too(state: str, for_s: float) -> None:
    frozen = replace(SILENT, process=replace(PROCESS, state=state))

    assert verdicts(every_two_seconds(for_s, frozen)) == certain(Kind.RUNNER_FROZEN)


def test_one_question_without_an_answer_is_not_enough_however_long_ago() -> None:
    stopped = replace(RUNNER, process=replace(PROCESS, state="T"))
    unasked = replace(stopped, answering=Answering.UNASKED)
    looks = [seen(0.0, RUNNER), seen(2.0, replace(stopped, answering=Answering.SILENT))]
    looks += [seen(4.0 + 2 * n, unasked) for n in range(50)]

    assert verdicts(looks) == []


@pytest.mark.parametrize(("state", "for_s"), [("T", 14.0), ("D", 14.0), ("S", 58.0), ("t", 900.0)])
def test_a_silent_runner_is_not_frozen_yet(state: str, for_s: float) -> None:
    silent = replace(SILENT, process=replace(PROCESS, state=state))

    assert verdicts(every_two_seconds(for_s, silent)) == []


@pytest.mark.parametrize(
    "moving",
    [
        lambda _: replace(PROCESS, is_runnable=True),
        lambda n: replace(PROCESS, state="D", major_faults=n),
        lambda n: replace(PROCESS, cpu_ticks=100 * n),
        lambda n: replace(PROCESS, state="D", moved_bytes=n << 20),
    ],
    ids=["starved", "swapped", "computing", "reading"],
)
def test_a_silent_runner_that_moves_is_not_frozen(moving: Callable[[int], ProcessLook]) -> None:
    looks = [seen(2.0 * n, replace(SILENT, process=moving(n)), models=PINNED) for n in range(300)]

    assert verdicts(looks) == []


@pytest.mark.parametrize(("for_s", "is_stuck"), [(118.0, False), (120.0, True)])
@pytest.mark.parametrize("answering", [Answering.LOADING, Answering.SILENT, Answering.CLOSED])
def test_a_load_that_neither_reads_nor_computes_is_stuck(
    answering: Answering, for_s: float, is_stuck: bool
) -> None:
    loading = replace(RUNNER, blob="sha256:b", answering=answering, process=replace(PROCESS, state="D"))

    looks = every_two_seconds(for_s, loading, models=None)

    assert verdicts(looks) == (certain(Kind.LOAD_STUCK) if is_stuck else [])


def test_a_runner_that_has_no_port_is_not_taken_for_loading() -> None:
    without = replace(RUNNER, port=None, answering=Answering.UNASKED)

    assert verdicts(every_two_seconds(900.0, without)) == []


def test_runners_that_cannot_be_looked_at_are_not_judged_by_what_they_did_before() -> None:
    looks = every_two_seconds(60.0, BUSY)

    unread = replace(looks[-1], runners=Witness(None, None, "/proc did not answer in time"))

    assert verdicts([*looks, unread]) == []
