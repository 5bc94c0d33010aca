"""Runners that ended by themselves: what counts as one, and how it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Kind
from arasul_supervisor.healing.history.deaths import DeathWatch
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.looking.witnesses import (
    Answering,
    EngineLook,
    LogLook,
    Look,
    ModelsLook,
    RunnerLook,
    Witness,
    told,
)
from arasul_supervisor.ollama.models import LoadedModel
from arasul_supervisor.supervision.process_looks import Identity, ProcessLook

BLOB = "sha256:" + "a" * 64
TINY = LoadedModel("tiny:latest", 1, 0, 2048, "", "sha256:m")
LISTED = ModelsLook((TINY,), {"tiny:latest": 200.0}, {"tiny:latest": frozenset({BLOB})})
EMPTY = ModelsLook(())


def runner(pid: int = 7, *, answering: Answering = Answering.READY) -> RunnerLook:
    process = ProcessLook((pid, 100), "S", 5, 0, 10, is_runnable=False)
    return RunnerLook(process, 4000, BLOB, answering, connections=frozenset())


class Life:
    """An engine that is looked at again and again."""

    def __init__(self) -> None:
        self.now_mono = 1000.0
        self.history, self.watch = History(), DeathWatch()
        self.ended_by_us: frozenset[Identity] = frozenset()

    def look(
        self,
        *runners: RunnerLook,
        models: ModelsLook = LISTED,
        deaths: dict[str, int] | None = None,
        generation: int = 1,
    ) -> None:
        """One look, 2 s after the last; the list is of this moment."""
        self.now_mono += 2.0
        look = Look(
            self.now_mono,
            self.now_mono,
            EngineLook(generation, None, 0, 60.0, is_llama_server=True),
            told(runners, self.now_mono),
            models=told(models, self.now_mono),
            log=LogLook(deaths=deaths or {}),
        )
        self.history = self.history.after(look)
        self.watch = self.watch.after(self.history, ended_by_us=self.ended_by_us)

    def kinds(self) -> list[Kind]:
        """What is told now."""
        return [verdict.kind for verdict in self.watch.verdicts(self.history)]


@pytest.fixture
def life() -> Life:
    """An engine with one runner at rest."""
    life = Life()
    life.look(runner())
    life.look(runner())
    return life


def test_a_runner_that_is_gone_while_its_model_is_listed_has_died_at_rest(life: Life) -> None:
    for _ in range(6):
        life.look()

    (verdict,) = life.watch.verdicts(life.history)
    assert verdict.kind is Kind.RUNNER_DIED
    assert verdict.model == "tiny:latest"
    assert "The runner 7 is gone, and Ollama lists tiny:latest as loaded" in verdict.evidence


def test_a_list_from_a_moment_after_it_was_missed_proves_nothing(life: Life) -> None:
    for _ in range(5):
        life.look()

    assert life.kinds() == []


def test_it_is_told_once(life: Life) -> None:
    for _ in range(8):
        life.look()

    assert len(life.watch.deaths) == 1


def test_a_model_that_was_unloaded_took_its_runner_with_it(life: Life) -> None:
    for _ in range(7):
        life.look(models=EMPTY)

    assert life.kinds() == []


def test_a_list_that_speaks_of_a_later_runner_says_nothing_of_an_earlier_one(life: Life) -> None:
    life.look(models=EMPTY)  # unloaded
    life.look(runner(8))
    for _ in range(3):
        life.look(runner(8))
    life.look()  # unloaded again, and the list is from before

    assert life.kinds() == []


def test_a_runner_that_we_ended_did_not_die_by_itself(life: Life) -> None:
    life.ended_by_us = frozenset({(7, 100)})
    for _ in range(7):
        life.look()

    assert life.kinds() == []


def test_a_model_that_was_loaded_anew_has_another_runner(life: Life) -> None:
    for _ in range(7):
        life.look(runner(8))

    assert life.kinds() == []


def test_a_runner_that_died_while_it_loaded_is_not_one_at_rest() -> None:
    life = Life()
    life.look(runner(answering=Answering.LOADING))
    for _ in range(7):
        life.look()

    assert life.kinds() == []


def test_what_the_log_tells_is_one_death_however_the_process_looks(life: Life) -> None:
    for _ in range(5):
        life.look(deaths={BLOB: 1})

    assert life.kinds() == [Kind.RUNNER_DIED]


def test_a_death_at_rest_that_the_log_tells_later_is_the_same(life: Life) -> None:
    for _ in range(6):
        life.look()
    life.now_mono += 60.0
    life.look(deaths={BLOB: 1})

    assert len(life.watch.deaths) == 1


def test_three_deaths_within_ten_minutes_are_a_runner_that_keeps_dying(life: Life) -> None:
    for count in (1, 2, 3):
        life.look(runner(10 + count), deaths={BLOB: count})

    assert life.kinds().count(Kind.RUNNERS_KEEP_DYING) == 1


def test_two_deaths_are_none(life: Life) -> None:
    for count in (1, 2):
        life.look(runner(10 + count), deaths={BLOB: count})

    assert Kind.RUNNERS_KEEP_DYING not in life.kinds()


def test_deaths_of_ten_minutes_ago_are_forgotten(life: Life) -> None:
    for count in (1, 2):
        life.look(runner(10 + count), deaths={BLOB: count})
    life.now_mono += 600.0
    life.look(runner(20), deaths={BLOB: 3})

    assert Kind.RUNNERS_KEEP_DYING not in life.kinds()


def test_what_died_with_the_last_engine_is_no_death_of_this_one(life: Life) -> None:
    life.look(generation=2)
    life.look(generation=2)

    assert life.kinds() == []


def test_a_look_without_an_engine_changes_nothing(life: Life) -> None:
    before = life.watch
    down = Look(life.now_mono + 2, life.now_mono + 2, None, Witness())

    after = before.after(replace(life.history, look=down), ended_by_us=frozenset())

    assert after is before
