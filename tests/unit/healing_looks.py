"""Looks at a small box, and what they have shown: the ground of the tests of healing's rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arasul_supervisor.healing.diagnosis.diagnosis import diagnose
from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.looking.witnesses import (
    Answering,
    EngineLook,
    GpuLook,
    LogLook,
    Look,
    ModelsLook,
    RunnerLook,
    SlotsLook,
    Witness,
    told,
)
from arasul_supervisor.ollama.models import LoadedModel
from arasul_supervisor.supervision.process_looks import ProcessLook

if TYPE_CHECKING:
    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.runner_history import RunnerHistory

WALL = 1.7e9
PROCESS = ProcessLook((7, 100), "S", 0, 0, 0, is_runnable=False)
RUNNER = RunnerLook(PROCESS, 30_000, "sha256:a", Answering.READY, connections=frozenset())
BUSY = replace(RUNNER, connections=frozenset({5}), slots=SlotsLook(True, ((1, 512, 3),)))
ENGINE = EngineLook(1, ProcessLook((1, 1), "S", 0, 0, 0, is_runnable=False), 0, 100.0, is_llama_server=True)
LISTED = ModelsLook(
    (LoadedModel("a:latest", 1, 0, 2048, "2026-11-29T12:00:00Z", "sha256:m"),),
    expires_in_s={"a:latest": 30.0},
    blobs={"a:latest": frozenset({"sha256:a"})},
    installed_blobs=frozenset({"sha256:a"}),
)
LIMITS = Limits()
SILENT = replace(RUNNER, answering=Answering.SILENT)
FULL_QUEUE = LogLook({"too_many_requests": (9, 1e9)})
OLD = replace(ENGINE, is_llama_server=False)
ON_GPU = replace(LISTED, loaded=(LoadedModel("a:latest", 10, 10, 2048, "2026-11-29T12:00:00Z", "sha256:m"),))
ASKED_29 = replace(RUNNER, connections=frozenset({5}))
PINNED = replace(LISTED, expires_in_s={"a:latest": 1e10})


def seen(
    now_mono: float,
    *runners: RunnerLook,
    models: ModelsLook | None = None,
    ahead_s: float = 0.0,
    engine: EngineLook = ENGINE,
) -> Look:
    """A look that shows these runners; `ahead_s`: by how much the clock on the wall has gone too far."""
    asked: Witness[ModelsLook] = told(models, now_mono) if models is not None else Witness()
    return Look(now_mono, WALL + now_mono + ahead_s, engine, told(runners, now_mono), asked)


def after(*looks: Look) -> History:
    """What these looks have shown."""
    history = History()
    for look in looks:
        history = history.after(look)
    return history


def only(history: History) -> RunnerHistory:
    """Its one runner."""
    (runner,) = history.runners.values()
    return runner


def every_two_seconds(
    for_s: float,
    *runners: RunnerLook,
    models: ModelsLook | None = PINNED,
    engine: EngineLook = ENGINE,
    gpu_load: float | str | None = "none",
    log: LogLook | None = None,
    own_load: str | None = None,
) -> list[Look]:
    """Looks that all show the same."""
    gpu = None if gpu_load == "none" else GpuLook("ok", True, True, gpu_load, "")  # type: ignore[arg-type]  # "none": no GPU
    return [
        replace(
            seen(2.0 * number, *runners, models=models, engine=engine),
            gpu=gpu,
            log=log or LogLook(),
            own_load=own_load,
        )
        for number in range(int(for_s / 2) + 1)
    ]


def verdicts(looks: list[Look]) -> list[tuple[Kind, Certainty]]:
    """What is wrong at the end of them."""
    return [(one.kind, one.certainty) for one in said(looks)]


def said(looks: list[Look]) -> tuple[Verdict, ...]:
    """The same, with its words."""
    return diagnose(after(*looks), LIMITS)


def certain(kind: Kind) -> list[tuple[Kind, Certainty]]:
    """That alone."""
    return [(kind, Certainty.CERTAIN)]
