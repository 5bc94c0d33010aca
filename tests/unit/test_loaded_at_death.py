"""Guards "after a crash the models that lay in memory come back": which ones these were, by the looks before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arasul_supervisor.healing.aftermath.loaded_at_death import AtDeath, LoadedBook
from arasul_supervisor.healing.looking.witnesses import (
    Answering,
    EngineLook,
    Look,
    ModelsLook,
    RunnerLook,
    SlotsLook,
    Witness,
    told,
)
from arasul_supervisor.ollama.models import LoadedModel
from arasul_supervisor.supervision.process_looks import ProcessLook

A, B, C = "sha256:" + "a" * 64, "sha256:" + "b" * 64, "sha256:" + "c" * 64
BLOB = {"a": A, "b": B, "c": C}
FOR_EVER_S = 293 * 365 * 24 * 3600.0
GENERATION = 4


def runner(
    blob: str | None,
    *,
    answering: Answering = Answering.READY,
    ticks: int = 7,
    is_orphan: bool = False,
    slots: SlotsLook | None = None,
    connections: frozenset[int] | None = None,
) -> RunnerLook:
    pid = 100 + ord((blob or "sha256:z")[7])
    process = ProcessLook((pid, 1), "S", ticks, 0, 0, False)
    return RunnerLook(
        process,
        4000 + pid,
        blob,
        answering=answering,
        slots=slots,
        connections=connections,
        is_orphan=is_orphan,
    )


def models(
    *names: str, expires_in_s: float = 300.0, expires_at: str = "soon", blobs: bool = True
) -> ModelsLook:
    return ModelsLook(
        tuple(LoadedModel(name, 1, 0, 2048, expires_at, f"sha256:{name}") for name in names),
        dict.fromkeys(names, expires_in_s),
        {name: frozenset({BLOB[name]}) for name in names} if blobs else {},
    )


def look(
    mono: float,
    listed: ModelsLook | None,
    *runners: RunnerLook,
    generation: int = GENERATION,
    is_llama_server: bool = True,
) -> Look:
    engine = EngineLook(generation, None, 0, 100.0, is_llama_server)
    return Look(mono, 0.0, engine, told(runners, mono), Witness() if listed is None else told(listed, mono))


def at_death(*looks: Look, died_mono: float = 100.0) -> AtDeath:
    book = LoadedBook()
    for one in looks:
        book.see(one)
    return book.at_death(GENERATION, died_mono=died_mono)


def names(found: AtDeath) -> list[str]:
    return [model.name for model in found.loaded]


def test_a_listed_model_whose_runner_lived_was_loaded() -> None:
    found = at_death(look(98.0, models("a"), runner(A)))

    assert names(found) == ["a"]


def test_a_model_that_had_been_unloaded_is_not_among_them() -> None:
    found = at_death(look(96.0, models("a", "b"), runner(A), runner(B)), look(98.0, models("a"), runner(A)))

    assert names(found) == ["a"]


def test_a_model_that_is_listed_after_its_runner_has_gone_is_not_among_them() -> None:
    found = at_death(look(98.0, models("a", "b"), runner(A)))

    assert names(found) == ["a"]


def test_a_look_that_met_the_dying_tree_is_not_believed() -> None:
    found = at_death(look(98.0, models("a"), runner(A)), look(99.9, models("a")), died_mono=100.0)

    assert names(found) == ["a"]


def test_a_list_that_could_not_be_had_at_the_last_look_is_that_of_the_look_before() -> None:
    found = at_death(look(96.0, models("a"), runner(A)), look(98.0, None, runner(A)))

    assert names(found) == ["a"]


def test_runners_that_could_not_be_looked_at_leave_the_list_to_be_believed() -> None:
    found = at_death(replace(look(98.0, models("a")), runners=Witness()))

    assert names(found) == ["a"]


def test_an_orphan_of_an_earlier_engine_is_nobodys_runner() -> None:
    found = at_death(look(98.0, models("a"), runner(A, is_orphan=True)))

    assert names(found) == []


def test_a_runner_of_a_split_model_names_no_weights_and_may_be_that_of_any() -> None:
    found = at_death(look(98.0, models("a"), runner(None)))

    assert names(found) == ["a"]


def test_where_the_store_tells_no_weights_any_runner_will_do() -> None:
    found = at_death(look(98.0, models("a", blobs=False), runner(A)))

    assert names(found) == ["a"]


def test_an_earlier_generation_is_forgotten() -> None:
    found = at_death(look(90.0, models("a"), runner(A), generation=GENERATION - 1), look(98.0, models()))

    assert names(found) == []


def test_a_generation_that_no_look_saw_had_nothing() -> None:
    found = at_death(look(98.0, models("a"), runner(A), generation=GENERATION - 1))

    assert found == AtDeath()


def test_looks_after_the_death_change_nothing() -> None:
    found = at_death(look(98.0, models("a"), runner(A)), Look(101.0, 0.0, None))

    assert names(found) == ["a"]


def test_one_that_stays_for_ever_is_pinned() -> None:
    found = at_death(look(98.0, models("a", expires_in_s=FOR_EVER_S), runner(A)))

    assert found.loaded[0].is_pinned


@pytest.mark.parametrize("expires_in_s", [300.0, -5.0, 364 * 24 * 3600.0])
def test_one_that_goes_some_day_is_not_pinned(expires_in_s: float) -> None:
    found = at_death(look(98.0, models("a", expires_in_s=expires_in_s), runner(A)))

    assert not found.loaded[0].is_pinned


def test_its_context_and_weights_are_kept() -> None:
    (found,) = at_death(look(98.0, models("a"), runner(A))).loaded

    assert (found.context_length, found.blobs, found.digest) == (2048, frozenset({A}), "sha256:a")


def test_without_any_use_seen_the_order_is_that_of_ollama() -> None:
    found = at_death(look(98.0, models("b", "a"), runner(A), runner(B)))

    assert names(found) == ["b", "a"]


def test_one_whose_expiry_moved_later_was_used_more_recently() -> None:
    both = (runner(A), runner(B))
    first = models("b", "a")
    second = replace(first, loaded=(first.loaded[0], replace(first.loaded[1], expires_at="later")))

    found = at_death(look(94.0, first, *both), look(96.0, second, *both), look(98.0, second, *both))

    assert names(found) == ["a", "b"]


def test_one_that_was_answering_was_used_more_recently() -> None:
    listed = models("b", "a")

    found = at_death(
        look(96.0, listed, runner(A), runner(B)),
        look(98.0, listed, runner(A, connections=frozenset({5000})), runner(B)),
    )

    assert names(found) == ["a", "b"]


@pytest.mark.parametrize("answering", [Answering.LOADING, Answering.CLOSED, Answering.SILENT])
def test_a_runner_that_is_not_listed_and_not_ready_was_loading(answering: Answering) -> None:
    found = at_death(look(98.0, models("a"), runner(A), runner(B, answering=answering)))

    assert (found.loading, names(found)) == (frozenset({B}), ["a"])


@pytest.mark.parametrize("answering", [Answering.READY, Answering.UNASKED])
def test_a_runner_that_rests_and_is_not_listed_was_not_loading(answering: Answering) -> None:
    found = at_death(look(98.0, models("a"), runner(A), runner(B, answering=answering)))

    assert found.loading == frozenset()


def test_beside_a_listed_model_of_unknown_weights_only_a_runner_that_says_so_is_loading() -> None:
    listed = models("a", blobs=False)

    found = at_death(
        look(98.0, listed, runner(A, answering=Answering.SILENT), runner(B, answering=Answering.LOADING))
    )

    assert found.loading == frozenset({B})


@pytest.mark.parametrize(
    "working",
    [
        pytest.param(runner(A, connections=frozenset({5000})), id="an open request"),
        pytest.param(runner(A, slots=SlotsLook(True, ())), id="a busy slot"),
        pytest.param(runner(A, ticks=8), id="it used the processor"),
    ],
)
def test_a_runner_at_work_is_active(working: RunnerLook) -> None:
    found = at_death(look(96.0, models("a"), runner(A)), look(98.0, models("a"), working))

    assert found.active == frozenset({A})


def test_an_idle_runner_is_not_active() -> None:
    found = at_death(look(96.0, models("a"), runner(A)), look(98.0, models("a"), runner(A)))

    assert found.active == frozenset()


def test_a_connection_that_an_old_engine_keeps_open_is_no_work() -> None:
    kept = runner(A, connections=frozenset({5000}))

    found = at_death(
        look(96.0, models("a"), kept, is_llama_server=False),
        look(98.0, models("a"), kept, is_llama_server=False),
    )

    assert found.active == frozenset()


def test_a_listed_model_that_does_not_answer_was_not_loading() -> None:
    found = at_death(look(98.0, models("a"), runner(A, answering=Answering.SILENT)))

    assert found.loading == frozenset()
