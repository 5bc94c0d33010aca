"""CONTRACT §4, `/health`: what follows from what is seen, as one table of judgements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arasul_supervisor.api.gpu_rules import GpuUse, judge_gpu_use
from arasul_supervisor.api.health_rules import HealthInputs, Inventory, Now, judge_health, with_lost_runner
from arasul_supervisor.logs.meaning.finding import Finding
from arasul_supervisor.ollama.models import LoadedModel
from arasul_supervisor.supervision.snapshot import Failure, RunnerLoss, Snapshot, State, Wanted
from arasul_supervisor.telemetry.gpu_check import GpuCheck

NOW = Now(mono=1000.0, wall=1.7e9, uptime_s=50.0)
RUNNING = Snapshot(
    state=State.RUNNING,
    wanted=Wanted.UP,
    generation=3,
    pid=42,
    started_mono=900.0,
    ready_mono=901.0,
    answered_mono=999.5,
    engine_version="0.34.4",
    grace_until_mono=1100.0,
)
STARTING = replace(RUNNING, state=State.STARTING, ready_mono=None, answered_mono=None)
INVENTORY = Inventory(
    default="qwen3:14b-q8", installed=("qwen3:14b-q8",), is_default_installed=True, age_s=3.0
)
BASE = HealthInputs(
    snapshot=RUNNING,
    gpu=GpuCheck("ok", "GPU 0 answers.", 2.0),
    findings=(),
    inventory=INVENTORY,
    gpu_use=GpuUse(),
    version="1.0",
)


QUARANTINED = "qwen3:14b-q8 made Ollama crash 2 times within an hour: at noon and at one."


def found(severity: str, *, ago_s: float = 10.0) -> Finding:
    outcome = {"error": "load_failed", "warning": "memory_tight", "info": "pull_stalled"}[severity]
    return Finding(outcome, "A model did not load.", 1000.0 - ago_s, 1.7e9)


def gpu(status: str) -> dict[str, Any]:  # Any: fields of HealthInputs
    return {"gpu": GpuCheck(status, "About the GPU.", 2.0)}


ON_CPU = GpuUse(is_on_cpu=True)
FULL = {"gpu": GpuCheck("ok", "GPU 0 answers.", 2.0, fullest_percent=95.1)}


def holding(size_bytes: int, size_vram_bytes: int) -> GpuUse:
    return GpuUse(loaded=(LoadedModel("tiny:latest", size_bytes, size_vram_bytes, None, "", "sha256:0"),))


def out_of_memory(*, ago_s: float) -> Finding:
    return Finding("out_of_memory", "A model did not fit.", 1000.0 - ago_s, 1.7e9)


@pytest.mark.parametrize(
    ("changes", "status", "http_status"),
    [
        pytest.param({}, "healthy", 200, id="all is well"),
        pytest.param({"snapshot": replace(RUNNING, missed_beats=2)}, "healthy", 200, id="two beats missed"),
        pytest.param(
            {"snapshot": replace(RUNNING, missed_beats=3)}, "unhealthy", 503, id="three beats missed"
        ),
        pytest.param({"snapshot": replace(RUNNING, is_frozen=True)}, "unhealthy", 503, id="seen stopped"),
        pytest.param({"snapshot": STARTING}, "starting", 503, id="starting within the grace"),
        pytest.param(
            {"snapshot": replace(STARTING, grace_until_mono=999.0)}, "unhealthy", 503, id="the grace is over"
        ),
        pytest.param(
            {"snapshot": replace(STARTING, state=State.BACKOFF)},
            "starting",
            503,
            id="back-off within the grace",
        ),
        pytest.param(
            {"snapshot": replace(STARTING, state=State.BACKOFF, gave_up=True)}, "unhealthy", 503, id="gave up"
        ),
        pytest.param({"snapshot": replace(STARTING, state=State.FATAL)}, "unhealthy", 503, id="fatal"),
        pytest.param(
            {"snapshot": replace(STARTING, state=State.STOPPED, wanted=Wanted.DOWN)},
            "unhealthy",
            503,
            id="stopped by an operator",
        ),
        pytest.param(gpu("fail"), "unhealthy", 503, id="the GPU is lost"),
        pytest.param(gpu("warn"), "degraded", 200, id="the GPU is slowed down"),
        pytest.param(gpu("unknown"), "healthy", 200, id="the GPU is not known yet"),
        pytest.param(gpu("skipped"), "healthy", 200, id="no GPU"),
        pytest.param({"gpu_use": ON_CPU}, "degraded", 200, id="on the CPU beside a GPU"),
        pytest.param({"gpu_use": ON_CPU, **gpu("skipped")}, "healthy", 200, id="on the CPU without a GPU"),
        pytest.param(
            {"gpu_use": replace(ON_CPU, cpu_wish="LLM_GPU_LAYERS is 0")},
            "healthy",
            200,
            id="as it was asked to",
        ),
        pytest.param({"gpu_use": holding(100, 0)}, "degraded", 200, id="a model without a byte on the GPU"),
        pytest.param({"gpu_use": holding(100, 40)}, "healthy", 200, id="a model in part on the GPU"),
        pytest.param(
            {"gpu_use": holding(0, 0)}, "healthy", 200, id="a model of a size that Ollama does not tell"
        ),
        pytest.param(FULL, "healthy", 200, id="a full GPU"),
        pytest.param(
            {**FULL, "findings": (out_of_memory(ago_s=50),)},
            "degraded",
            200,
            id="a full GPU that refused a model",
        ),
        pytest.param({"findings": (found("error"),)}, "degraded", 200, id="an error in the log"),
        pytest.param({"findings": (found("error", ago_s=301),)}, "healthy", 200, id="an error long ago"),
        pytest.param({"findings": (found("warning"),)}, "healthy", 200, id="a warning in the log"),
        pytest.param({"findings": (found("info"),)}, "healthy", 200, id="a harmless outcome in the log"),
        pytest.param(
            {"findings": (replace(found("error"), is_cured=True),)},
            "healthy",
            200,
            id="an error that is cured",
        ),
        pytest.param(
            {"findings": (replace(found("error", ago_s=9e6), outcome="bad_setting"),)},
            "degraded",
            200,
            id="what lasts as long as this engine",
        ),
        pytest.param(
            {"inventory": Inventory(default="x", age_s=1.0)},
            "healthy",
            200,
            id="the default model is missing",
        ),
        pytest.param({"inventory": Inventory(default="x")}, "healthy", 200, id="no models listed yet"),
        pytest.param(
            {"snapshot": STARTING, **gpu("fail")}, "unhealthy", 503, id="starting, and the GPU is lost"
        ),
        pytest.param(
            {"findings": (found("error"),), **gpu("fail")}, "unhealthy", 503, id="the worst point wins"
        ),
    ],
)
def test_a_judgement_follows_the_rules(changes: dict[str, Any], status: str, http_status: int) -> None:
    view = judge_health(replace(BASE, **changes), NOW)

    assert (view.status, view.http_status) == (status, http_status)
    assert view.reason


def test_the_reason_is_that_of_the_worst_point() -> None:
    view = judge_health(replace(BASE, findings=(found("error"),)), NOW)

    assert view.reason == view.checks.errors.detail == "A model did not load."


def test_a_known_failure_is_told_as_the_reason() -> None:
    failure = Failure("port_in_use", "Port 11434 is held by pid 812.")
    down = replace(STARTING, state=State.BACKOFF, failure=failure)

    view = judge_health(replace(BASE, snapshot=down), NOW)

    assert view.reason == "Port 11434 is held by pid 812."


def test_a_missing_default_model_is_told_with_the_command_that_pulls_it() -> None:
    view = judge_health(replace(BASE, inventory=Inventory(default="qwen3:14b-q8", age_s=1.0)), NOW)

    assert view.checks.model.status == "warn"
    assert "arasul-supervisor pull qwen3:14b-q8" in view.checks.model.detail


def test_the_errors_point_tells_outcome_and_count_and_how_many_others_there_are() -> None:
    often = replace(found("error", ago_s=3.0), count=4)
    others = (found("warning"), replace(found("error"), outcome="gpu_fault"))

    errors = judge_health(replace(BASE, findings=(*others, often)), NOW).checks.errors

    assert (errors.outcome, errors.count, errors.age_s) == ("load_failed", 4, 3.0)
    assert errors.detail == "A model did not load. (4 times) (and 1 more)"


@pytest.mark.parametrize(("ago_s", "outcomes"), [(10.5, 1), (90.0, 2)], ids=["that death", "an earlier one"])
def test_a_runner_that_the_kernel_killed_is_told_once(ago_s: float, outcomes: int) -> None:
    death = replace(found("error", ago_s=ago_s), outcome="runner_died")
    loss = RunnerLoss("The kernel killed a model runner.", mono=990.0, at=1.7e9)

    assert len(with_lost_runner((death,), loss)) == outcomes
    assert with_lost_runner((death,), None) == (death,)


def test_each_point_has_its_age() -> None:
    view = judge_health(replace(BASE, findings=(found("warning", ago_s=7.0),)), NOW)

    ages = (view.checks.api.age_s, view.checks.gpu.age_s, view.checks.model.age_s, view.checks.errors.age_s)
    assert ages == (0.5, 2.0, 3.0, 7.0)


@pytest.mark.parametrize(("percent", "ago_s"), [(95.0, 50), (95.1, 61)], ids=["not quite full", "long ago"])
def test_a_full_gpu_is_no_warning_without_a_model_that_did_not_fit_just_now(
    percent: float, ago_s: float
) -> None:
    full = GpuCheck("ok", "GPU 0 answers.", 2.0, fullest_percent=percent)

    told = judge_gpu_use(full, GpuUse(), (out_of_memory(ago_s=ago_s),), now_mono=1000.0)

    assert told == ("ok", "GPU 0 answers.")


def test_figures_that_stay_away_do_not_hide_that_the_engine_computes_on_the_cpu() -> None:
    silent = GpuCheck("unknown", "The last figures are 20 s old.", 20.0, has_gpu=True)

    status, detail = judge_gpu_use(silent, ON_CPU, (), now_mono=1000.0)

    assert (status, "computes on the CPU" in detail) == ("warn", True)


def test_a_mismatch_of_the_driver_is_not_talked_over_by_the_advice_to_restart() -> None:
    mismatch = GpuCheck("warn", "Do not restart Ollama, reboot.", 2.0)

    told = judge_gpu_use(mismatch, ON_CPU, (), now_mono=1000.0)

    assert told == ("warn", "Do not restart Ollama, reboot. Ollama computes on the CPU.")


def test_a_sick_gpu_speaks_for_itself_whatever_the_engine_does() -> None:
    assert judge_gpu_use(GpuCheck("fail", "It is lost.", 2.0), ON_CPU, (), now_mono=1000.0) == (
        "fail",
        "It is lost.",
    )


def test_a_quarantined_default_model_is_a_warning_with_its_reason() -> None:
    inventory = replace(INVENTORY, why_quarantined=QUARANTINED)

    view = judge_health(replace(BASE, inventory=inventory), NOW)

    assert (view.checks.model.status, view.checks.model.detail) == ("warn", QUARANTINED)


def test_a_quarantined_default_model_makes_no_engine_unhealthy() -> None:
    inventory = replace(INVENTORY, why_quarantined=QUARANTINED)

    view = judge_health(replace(BASE, inventory=inventory), NOW)

    assert (view.status, view.http_status) == ("healthy", 200)
    assert view.reason.endswith(QUARANTINED)


def test_another_model_that_is_loaded_counts_for_more_than_a_quarantined_default() -> None:
    inventory = replace(INVENTORY, loaded=("tiny:latest",), why_quarantined=QUARANTINED)

    view = judge_health(replace(BASE, inventory=inventory), NOW)

    assert (view.checks.model.status, view.checks.model.detail) == ("ok", "Loaded: tiny:latest.")
