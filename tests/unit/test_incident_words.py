"""Guards CONTRACT §4, incidents: what happened is one sentence, and the witnesses are figures without private text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Kind, Verdict
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.incidents.incident_words import figures, what_happened
from arasul_supervisor.healing.looking.witnesses import GpuLook, LogLook, Look, MemoryLook
from tests.unit.healing_looks import BUSY, ENGINE, LISTED, PROCESS, RUNNER, after, seen

OF_THE_ENGINE = (Kind.ENGINE_CRASHED, Kind.START_FAILED)  # engine_ends.py has their sentences
OF_A_CALLER = (Kind.ASKED_FOR,)  # asked_cures.py
OF_VERDICTS = [kind for kind in Kind if kind not in (*OF_THE_ENGINE, *OF_A_CALLER)]
STUCK = Verdict(Kind.RUNNER_STUCK, "It is stuck.", 0.0, runner=PROCESS.identity, model="a:latest")
UNITS = re.compile(
    r"_(s|bytes|percent|ticks|pid|port|state|generation|models|busy|connections|answering|unanswered)$"
)


@pytest.mark.parametrize("kind", OF_VERDICTS)
@pytest.mark.parametrize("model", ["tiny:latest", None], ids=["named", "of unknown name"])
def test_every_verdict_has_a_sentence(kind: Kind, model: str | None) -> None:
    told = what_happened(Verdict(kind, "", 0.0, model=model))

    assert re.fullmatch(r"\S.*[^.]\.", told)
    assert "{" not in told and "None" not in told


def test_the_sentence_names_the_model() -> None:
    assert what_happened(STUCK) == (
        "The runner of a:latest does not compute any more, and a request waits for it."
    )


def test_before_the_first_look_there_are_no_figures() -> None:
    assert figures(History()) == {}


def test_figures_of_a_box_that_tells_nothing_are_null() -> None:
    told = figures(after(Look(1.0, 1.0, None)))

    assert told.pop("engine_generation") == 0
    assert told.pop("runners") == 0
    assert set(told.values()) == {None}


def test_figures_tell_the_gpu_and_the_memory() -> None:
    look = replace(
        seen(1.0, RUNNER, models=LISTED),
        gpu=GpuLook("ok", True, True, 12.5, "GPU 0 answers."),
        memory=MemoryLook(5, 8, pressure_percent=1.5),
    )

    told = figures(after(look))

    assert (told["gpu_state"], told["gpu_load_percent"]) == ("ok", 12.5)
    assert (told["memory_available_bytes"], told["memory_total_bytes"]) == (5, 8)
    assert (told["runners"], told["loaded_models"]) == (1, "a:latest")


def test_figures_of_a_verdict_on_a_runner_are_also_of_that_runner() -> None:
    told = figures(after(seen(1.0, BUSY), seen(3.0, BUSY)), STUCK)

    assert (told["runner_pid"], told["runner_slots_busy"], told["runner_connections"]) == (7, 1, 1)
    assert told["runner_still_s"] == 2.0


def test_a_runner_that_is_gone_has_no_figures() -> None:
    told = figures(after(seen(1.0)), STUCK)

    assert not any(name.startswith("runner_") for name in told)


def test_names_tell_their_units() -> None:
    told = figures(after(seen(1.0, BUSY)), STUCK)

    assert [name for name in told if not UNITS.search(name) and name != "runners"] == ["runner_waits_on"]


def test_seconds_are_rounded_to_milliseconds() -> None:
    told = figures(after(seen(1.0, RUNNER), seen(1.123456, RUNNER)), STUCK)

    assert told["runner_idle_s"] == 0.123


def test_figures_hold_no_text_but_states_and_names_of_models() -> None:
    busy = replace(BUSY, process=replace(PROCESS, waits_on="futex_wait_queue"))
    look = replace(
        seen(1.0, busy, models=LISTED, engine=ENGINE),
        log=LogLook({"a prompt": (1, 1.0)}, {"a prompt": 1}),
        gpu=GpuLook("ok", True, True, 1.0, "a sentence"),
        own_load="b:latest",
    )

    told = figures(after(look), STUCK)

    assert sorted(value for value in told.values() if isinstance(value, str)) == sorted(
        ["S", "S", "a:latest", "futex_wait_queue", "ok", "ready"]
    )
