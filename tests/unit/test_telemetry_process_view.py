"""Guards CONTRACT §4 `/api/stats`, the parts `engine` and `daemon`: what is unknown is null, the rest has its age."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arasul_supervisor.api.stats import with_names_in_use
from arasul_supervisor.telemetry.mapped_figures import Mapped, PssRound, RunnerModel
from arasul_supervisor.telemetry.process_figures import ProcessFigures, TreeFigures
from arasul_supervisor.telemetry.process_view import (
    Processes,
    daemon_entry,
    engine_entry,
    gpu_bytes_by_pid,
)

BLOB = "sha256:" + "a" * 64
SERVE = ProcessFigures(
    pid=100, start_ticks=5, cpu_ticks=1, rss_bytes=10, threads=3, open_fds=7, cpu_percent=1.0
)
RUNNER = ProcessFigures(
    pid=102, start_ticks=9, cpu_ticks=4, rss_bytes=20, threads=8, open_fds=4, cpu_percent=300.0
)
SPLIT = ProcessFigures(pid=101, start_ticks=9, cpu_ticks=4, rss_bytes=30, threads=9, open_fds=4)
OWN = ProcessFigures(pid=7, start_ticks=1, cpu_ticks=1, rss_bytes=40, threads=2, open_fds=11, cpu_percent=0.2)
PSS = PssRound(90.0, 0.001, {SERVE.identity: 5, RUNNER.identity: 6, SPLIT.identity: 7, OWN.identity: 8})
KNOWN = Processes(
    now_mono=100.0,
    age_s=1.5,
    tree=TreeFigures((SERVE, RUNNER, SPLIT)),
    own=OWN,
    mapped=Mapped({RUNNER.identity: RunnerModel(BLOB), SPLIT.identity: RunnerModel(None)}, PSS),
    model_names={BLOB: ("copy:v1", "tiny:latest")},
    gpu_bytes={102: 4096},
)


def runners(known: Processes) -> Any:  # Any: JSON
    return engine_entry(known, 100)["runners"]


def test_the_engine_is_the_sum_of_its_tree() -> None:
    entry = engine_entry(KNOWN, 100)

    assert {key: value for key, value in entry.items() if key != "runners"} == {
        "pid": 100,
        "rss_bytes": 60,
        "pss_bytes": 18,
        "pss_age_s": 10.0,
        "processes": 3,
        "threads": 20,
        "open_fds": 15,
        "cpu_percent": 301.0,
        "age_s": 1.5,
    }


def test_each_runner_is_told_with_its_model_in_the_order_of_their_pids() -> None:
    assert runners(KNOWN) == [
        {
            "pid": 101,
            "model": None,
            "models": [],
            "model_blob": None,
            "cpu_percent": None,
            "rss_bytes": 30,
            "pss_bytes": 7,
            "pss_age_s": 10.0,
            "gpu_memory_bytes": None,
            "threads": 9,
            "open_fds": 4,
        },
        {
            "pid": 102,
            "model": "copy:v1",
            "models": ["copy:v1", "tiny:latest"],
            "model_blob": BLOB,
            "cpu_percent": 300.0,
            "rss_bytes": 20,
            "pss_bytes": 6,
            "pss_age_s": 10.0,
            "gpu_memory_bytes": 4096,
            "threads": 8,
            "open_fds": 4,
        },
    ]


def test_an_engine_without_models_has_no_runners_and_one_that_is_unknown_has_no_list() -> None:
    idle = replace(KNOWN, mapped=Mapped({}, PSS))

    assert runners(idle) == []
    assert set(engine_entry(replace(KNOWN, tree=None), None).values()) == {None}


def test_the_daemon_is_told_by_itself() -> None:
    assert daemon_entry(KNOWN) == {
        "pid": 7,
        "rss_bytes": 40,
        "pss_bytes": 8,
        "pss_age_s": 10.0,
        "cpu_percent": 0.2,
        "threads": 2,
        "open_fds": 11,
        "age_s": 1.5,
    }


@pytest.mark.parametrize(
    "pss",
    [
        None,
        replace(PSS, taken_mono=-80.1),
        replace(PSS, pss_bytes={SERVE.identity: 5, RUNNER.identity: None, SPLIT.identity: 7}),
        replace(PSS, pss_bytes={SERVE.identity: 5, RUNNER.identity: 6}),
    ],
    ids=["never read", "three periods old", "not ours to see", "a runner that came after the round"],
)
def test_a_share_of_memory_that_is_not_known_of_all_is_unknown(pss: PssRound | None) -> None:
    entry = engine_entry(replace(KNOWN, mapped=Mapped({}, pss)), 100)

    assert (entry["pss_bytes"], entry["pss_age_s"]) == (None, None)


def test_memory_on_several_cards_adds_up_by_process() -> None:
    gpus: list[dict[str, object]] = [
        {"processes": [{"pid": 1, "memory_bytes": 10}, {"pid": 2, "memory_bytes": 5}]},
        {"processes": [{"pid": 1, "memory_bytes": 30}, {"pid": 2, "memory_bytes": None}]},
        {"processes": None},
    ]

    assert gpu_bytes_by_pid(gpus) == {1: 40, 2: None}


@pytest.mark.parametrize(
    ("loaded", "model"),
    [
        ((), "copy:v1"),
        (("tiny",), "tiny:latest"),
        (("registry.ollama.ai/library/tiny:latest",), "tiny:latest"),
        (("other:latest",), "copy:v1"),
    ],
    ids=["none seen", "short", "in full", "another"],
)
def test_of_several_names_the_one_that_is_loaded_is_told(loaded: tuple[str, ...], model: str) -> None:
    stats = {"engine": {"pid": 100, "runners": runners(KNOWN)}}

    named = with_names_in_use(stats, loaded)

    assert [runner["model"] for runner in named["engine"]["runners"]] == [None, model]
    assert named["engine"]["pid"] == 100
