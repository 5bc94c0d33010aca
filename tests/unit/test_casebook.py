"""Guards DESIGN §9: the gentlest cure first, within budgets, and over only when later looks show it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Cure, Kind, Verdict
from arasul_supervisor.healing.looking.witnesses import Answering
from arasul_supervisor.healing.treatment.casebook import CaseBook, Closed, Opened, Ordered
from arasul_supervisor.healing.treatment.ladder import (
    BUDGETS,
    Spent,
    budget_of,
    choose,
    cures_for,
    subject_of,
)
from tests.unit.healing_looks import BUSY, ENGINE, PROCESS, RUNNER, after, seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.looking.witnesses import EngineLook, RunnerLook
    from arasul_supervisor.healing.treatment.casebook import Event

STUCK = Verdict(Kind.RUNNER_STUCK, "It is stuck.", 0.0, runner=(7, 100), model="a:latest")
FROZEN = replace(STUCK, kind=Kind.RUNNER_FROZEN)
ENGINE_FROZEN = Verdict(Kind.ENGINE_FROZEN, "It is frozen.", 0.0)
LOAD_STUCK = replace(STUCK, kind=Kind.LOAD_STUCK)
WELL: tuple[Verdict, ...] = ()
OLD = replace(ENGINE, is_llama_server=False)
STOPPED = replace(RUNNER, process=replace(PROCESS, state="T"), answering=Answering.SILENT)


def at(
    now_mono: float, *runners: RunnerLook, engine: EngineLook = ENGINE, own_load: str | None = None
) -> History:
    look = replace(seen(now_mono, *runners, engine=engine), own_load=own_load)
    return after(replace(look, now_mono=now_mono - 2.0), look)


def told(book: CaseBook, *turns: tuple[Sequence[Verdict], History]) -> list[Event]:
    events: list[Event] = []
    for verdicts, history in turns:
        turn = book.after(verdicts, history)
        book, events = turn.book, [*events, *turn.events]
    return events


def cures(events: Sequence[Event]) -> list[Cure]:
    return [event.cure for event in events if isinstance(event, Ordered)]


def results(events: Sequence[Event]) -> list[str]:
    return [event.result for event in events if isinstance(event, Closed)]


@pytest.mark.parametrize(
    ("verdict", "history", "expected"),
    [
        (STUCK, at(2.0, BUSY), (Cure.END_RUNNER, Cure.RESTART_ENGINE)),
        (FROZEN, at(2.0, STOPPED), (Cure.CONTINUE, Cure.END_RUNNER, Cure.RESTART_ENGINE)),
        (LOAD_STUCK, at(2.0, RUNNER), (Cure.END_RUNNER, Cure.RESTART_ENGINE)),
        (
            LOAD_STUCK,
            at(2.0, RUNNER, own_load="a:latest"),
            (Cure.CANCEL_LOAD, Cure.END_RUNNER, Cure.RESTART_ENGINE),
        ),
        (LOAD_STUCK, at(2.0, RUNNER, own_load="b:latest"), (Cure.END_RUNNER, Cure.RESTART_ENGINE)),
        (LOAD_STUCK, at(2.0, RUNNER, engine=OLD), ()),
        (LOAD_STUCK, at(2.0, RUNNER, engine=OLD, own_load="a:latest"), (Cure.CANCEL_LOAD,)),
        (ENGINE_FROZEN, at(2.0), (Cure.RESTART_ENGINE,)),
        (replace(STUCK, kind=Kind.RUNNERS_KEEP_DYING), at(2.0), ()),
    ],
    ids=[
        "stuck",
        "stopped",
        "a load",
        "a load of ours",
        "a load beside ours",
        "a load of 0.29",
        "a load of ours on 0.29",
        "the engine",
        "keeps dying",
    ],
)
def test_each_illness_has_its_cures_the_gentlest_first(
    verdict: Verdict, history: History, expected: tuple[Cure, ...]
) -> None:
    assert cures_for(verdict, history) == expected


def test_what_is_only_suspected_opens_no_case() -> None:
    suspected = replace(STUCK, certainty=Certainty.SUSPECTED)

    assert told(CaseBook(100.0), ([suspected], at(2.0, BUSY))) == []


def test_a_case_opens_with_its_first_cure_and_orders_it() -> None:
    events = told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)))

    assert events == [Opened(STUCK, Cure.END_RUNNER, "It is stuck."), Ordered(STUCK, Cure.END_RUNNER, "")]


def test_the_next_cure_waits_for_the_time_of_the_first() -> None:
    turns = [([STUCK], at(now_mono, BUSY)) for now_mono in (2.0, 4.0, 6.0, 8.0, 10.0)]

    assert cures(told(CaseBook(100.0), *turns)) == [Cure.END_RUNNER]


def test_the_next_cure_says_that_the_first_did_not_help() -> None:
    events = told(CaseBook(100.0), ([FROZEN], at(2.0, STOPPED)), ([FROZEN], at(7.0, STOPPED)))

    assert events[-1] == Ordered(FROZEN, Cure.END_RUNNER, "continued did not help in time")


def test_the_engine_is_not_restarted_for_a_runner_that_could_not_be_killed() -> None:
    events = told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), ([STUCK], at(12.0, BUSY)))

    assert (cures(events), results(events)) == ([Cure.END_RUNNER], ["gave_up"])


@pytest.mark.parametrize("verdicts", [[STUCK], WELL], ids=["that is still seen", "that is not seen any more"])
def test_a_runner_that_outlives_its_kill_is_given_up_with_the_advice_to_reboot(
    verdicts: Sequence[Verdict],
) -> None:
    *_, closed = told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), (verdicts, at(12.0, BUSY)))

    assert isinstance(closed, Closed) and closed.detail == (
        "Runner_killed did not help in time. The runner outlives SIGKILL: it sleeps in the kernel (state D), and the "
        "box needs a reboot."
    )


def test_a_killed_runner_that_still_moves_is_not_called_asleep_in_the_kernel() -> None:
    moving = replace(BUSY, process=replace(PROCESS, is_runnable=True))

    *_, closed = told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), ([STUCK], at(12.0, moving)))

    assert isinstance(closed, Closed) and "SIGKILL" not in closed.detail


def test_a_runner_that_was_given_up_is_not_treated_at_once_for_another_symptom() -> None:
    turns = [([STUCK], at(2.0, BUSY)), ([STUCK], at(12.0, BUSY)), ([FROZEN], at(14.0, BUSY))]

    assert cures(told(CaseBook(100.0), *turns)) == [Cure.END_RUNNER]


@pytest.mark.parametrize(("looks", "expected"), [(1, []), (2, ["cured"])])
def test_a_runner_that_is_gone_for_two_looks_is_cured(looks: int, expected: list[str]) -> None:
    gone = [(WELL, at(4.0 + 2.0 * look)) for look in range(looks)]

    assert results(told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), *gone)) == expected


def test_a_runner_that_was_killed_and_is_still_there_is_not_cured_for_resting() -> None:
    turns = [(WELL, at(now_mono, RUNNER)) for now_mono in (4.0, 6.0, 8.0)]

    assert results(told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), *turns)) == []


def test_a_runner_that_was_continued_is_cured_when_it_answers() -> None:
    turns = [(WELL, at(now_mono, RUNNER)) for now_mono in (4.0, 6.0)]

    assert results(told(CaseBook(100.0), ([FROZEN], at(2.0, STOPPED)), *turns)) == ["cured"]


def test_a_runner_that_is_gone_after_it_was_continued_was_not_cured_by_that() -> None:
    turns = [(WELL, at(now_mono)) for now_mono in (4.0, 6.0)]

    assert results(told(CaseBook(100.0), ([FROZEN], at(2.0, STOPPED)), *turns)) == ["recovered"]


def test_a_runner_that_went_with_its_engine_was_not_cured() -> None:
    turns = [(WELL, at(now_mono, engine=replace(ENGINE, generation=2))) for now_mono in (4.0, 6.0)]

    assert results(told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), *turns)) == ["recovered"]


def test_a_runner_that_was_continued_and_does_not_answer_is_killed() -> None:
    silent = replace(RUNNER, answering=Answering.SILENT)

    events = told(
        CaseBook(100.0), ([FROZEN], at(2.0, STOPPED)), (WELL, at(4.0, silent)), ([FROZEN], at(7.0, silent))
    )

    assert cures(events) == [Cure.CONTINUE, Cure.END_RUNNER]


def test_a_runner_that_was_continued_and_is_not_found_sick_again_is_left_alone() -> None:
    silent = replace(RUNNER, answering=Answering.SILENT)
    turns = [(WELL, at(now_mono, silent)) for now_mono in (4.0, 7.0, 60.0)]

    events = told(CaseBook(100.0), ([FROZEN], at(2.0, STOPPED)), *turns)

    assert (cures(events), results(events)) == ([Cure.CONTINUE], [])


def test_a_restart_is_proved_by_the_next_generation() -> None:
    newer = replace(ENGINE, generation=2)
    turns = [(WELL, at(now_mono, engine=newer)) for now_mono in (10.0, 12.0)]

    assert results(told(CaseBook(100.0), ([ENGINE_FROZEN], at(2.0)), *turns)) == ["cured"]


def test_an_engine_that_answers_again_before_its_restart_is_not_proved_by_that() -> None:
    turns = [(WELL, at(now_mono)) for now_mono in (4.0, 6.0, 8.0)]

    assert results(told(CaseBook(100.0), ([ENGINE_FROZEN], at(2.0)), *turns)) == []


@pytest.mark.parametrize(
    ("kind", "cure"),
    [(Kind.CPU_FALLBACK, Cure.RESTART_ENGINE), (Kind.GPU_UNREACHABLE, Cure.EXIT)],
    ids=["CPU fallback", "GPU unreachable"],
)
def test_a_gpu_that_is_not_used_is_cured_when_the_last_answer_is_over_however_late(
    kind: Kind, cure: Cure
) -> None:
    ill = Verdict(kind, "It is not used.", 0.0)
    busy = [([ill], at(now_mono, BUSY)) for now_mono in (2.0, 4.0, 3600.0, 86_400.0)]

    ordered = [
        cures(told(CaseBook(100.0), *busy)),
        cures(told(CaseBook(100.0), *busy, ([ill], at(86_402.0, RUNNER)))),
    ]

    assert ordered == [[], [cure]]


def test_a_sick_runner_is_one_case_by_whatever_name() -> None:
    events = told(CaseBook(100.0), ([STUCK], at(2.0, BUSY)), ([FROZEN], at(4.0, BUSY)))

    assert len([event for event in events if isinstance(event, Opened)]) == 1


def test_what_is_forbidden_is_passed_over() -> None:
    turn = CaseBook(100.0).after([STUCK], at(2.0, BUSY), forbidden={Cure.END_RUNNER: "no"})

    assert turn.events[-1] == Ordered(STUCK, Cure.RESTART_ENGINE, "no")


def test_what_is_all_forbidden_is_given_up_with_each_reason() -> None:
    forbidden = {Cure.END_RUNNER: "no kill", Cure.RESTART_ENGINE: "no restart"}

    *_, closed = CaseBook(100.0).after([STUCK], at(2.0, BUSY), forbidden=forbidden).events

    assert isinstance(closed, Closed) and closed.detail.startswith("No kill; no restart. ")


@pytest.mark.parametrize(("later_s", "is_open"), [(598.0, False), (600.0, True)])
def test_a_case_that_was_given_up_is_taken_up_again_after_ten_minutes(later_s: float, is_open: bool) -> None:
    forbidden = {Cure.END_RUNNER: "no kill", Cure.RESTART_ENGINE: "no restart"}
    book = CaseBook(100.0).after([STUCK], at(2.0, BUSY), forbidden=forbidden).book

    turn = book.after([STUCK], at(2.0 + later_s, BUSY))

    assert any(isinstance(event, Opened) for event in turn.events) is is_open


def test_what_was_only_noted_is_noted_once() -> None:
    noted = replace(STUCK, kind=Kind.RUNNERS_KEEP_DYING)

    assert results(
        told(CaseBook(100.0), *(([noted], at(now_mono, BUSY)) for now_mono in (2.0, 700.0, 1400.0)))
    ) == ["noted"]


def test_a_budget_has_room_again_when_its_time_is_over() -> None:
    spent, budget = Spent(), BUDGETS[Cure.RESTART_ENGINE]
    for now_mono in (0.0, 10.0, 20.0):
        spent = spent.with_use(Cure.RESTART_ENGINE, "engine", now_mono)

    said = [spent.refusal(Cure.RESTART_ENGINE, "engine", budget, now_mono) for now_mono in (1800.0, 1801.0)]

    assert said == ["engine_restarting was tried 3 times in the last 30 min", None]


def test_the_runners_of_one_model_share_a_budget() -> None:
    spent = Spent()
    for number in range(BUDGETS[Cure.END_RUNNER].times):
        spent = spent.with_use(
            Cure.END_RUNNER, subject_of(replace(STUCK, runner=(number, 1)), Cure.END_RUNNER), 0.0
        )

    choice = choose(STUCK, (Cure.END_RUNNER,), spent=spent, forbidden={}, now_mono=1.0)

    assert choice.cure is Cure.NONE


def test_the_loads_of_one_model_share_a_budget_though_nobody_knows_its_name_yet() -> None:
    first, second = (replace(LOAD_STUCK, runner=(n, 1), model=None, blob="sha256:a") for n in (1, 2))

    assert subject_of(first, Cure.END_RUNNER) == subject_of(second, Cure.END_RUNNER)


def test_restarts_for_a_gpu_that_is_not_used_have_a_budget_of_their_own() -> None:
    fallback = Verdict(Kind.CPU_FALLBACK, "", 0.0)

    assert (budget_of(fallback, Cure.RESTART_ENGINE).times, subject_of(fallback, Cure.RESTART_ENGINE)) == (
        2,
        "cpu_fallback",
    )
