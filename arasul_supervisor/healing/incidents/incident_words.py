"""What an incident says: the sentence of what happened, and the witnesses as figures. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.diagnosis.verdicts import Verdict
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.history.runner_history import RunnerHistory

Figures = dict[str, int | float | str | None]

_WHAT: Final[Mapping[Kind, str]] = {
    Kind.RUNNER_STUCK: "The runner of {model} does not compute any more, and a request waits for it.",
    Kind.RUNNER_FROZEN: "The runner of {model} is frozen.",
    Kind.RUNNER_LEAKED: "A runner of {model} holds memory, and Ollama knows nothing of it.",
    Kind.RUNNER_ORPHANED: "A runner of {model} was left behind.",
    Kind.RUNNER_DIED: "The runner of {model} ended by itself.",
    Kind.RUNNERS_KEEP_DYING: "The runner of {model} ends again and again.",
    Kind.LOAD_STUCK: "The load of {model} never ends.",
    Kind.LOAD_DIED: "A load waits for a runner that is dead, and every other load behind it.",
    Kind.STOPPING_STUCK: "{model} is being stopped, and never is.",
    Kind.MODEL_DELETED: "{model} was deleted while it was loaded, and stays in memory.",
    Kind.SCHEDULER_STUCK: "Ollama answers, and loads nothing any more.",
    Kind.ENGINE_FROZEN: "Ollama is frozen.",
    Kind.MODEL_QUARANTINED: "{model} was quarantined.",
    Kind.CPU_FALLBACK: "Ollama computes on the CPU although this box has a GPU.",
    Kind.GPU_UNREACHABLE: "The GPU cannot be reached any more.",
    Kind.GPU_BROKEN: "The GPU is broken.",
    Kind.MEMORY_LOW: "Memory runs out.",
}


def what_happened(verdict: Verdict) -> str:
    """One sentence for people."""
    return _WHAT[verdict.kind].format(model=verdict.model or "a model")


def figures(history: History, verdict: Verdict | None = None) -> Figures:
    """The witnesses at this instant, flat, with units in their names; what is unknown is null."""
    look = history.look
    if look is None:
        return {}
    models = look.models.value
    told: Figures = {
        "engine_generation": history.generation,
        "engine_silent_s": _rounded(history.engine.silent_s) if history.engine else None,
        "engine_process_state": history.engine.look.process.state
        if history.engine and history.engine.look.process
        else None,
        "runners": len(history.runners),
        "loaded_models": ", ".join(model.name for model in models.loaded) if models else None,
        "loaded_models_age_s": _rounded(look.models.age_s(look.now_mono)),
        "gpu_state": look.gpu.state if look.gpu else None,
        "gpu_load_percent": look.gpu.load_percent if look.gpu else None,
        "memory_available_bytes": look.memory.available_bytes if look.memory else None,
        "memory_total_bytes": look.memory.total_bytes if look.memory else None,
        "memory_pressure_percent": look.memory.pressure_percent if look.memory else None,
    }
    runner = history.runners.get(verdict.runner) if verdict and verdict.runner else None
    return {**told, **(_of_runner(runner) if runner else {})}


def _of_runner(runner: RunnerHistory) -> Figures:
    process, slots = runner.look.process, runner.slots
    return {
        "runner_pid": process.pid,
        "runner_port": runner.look.port,
        "runner_process_state": process.state,
        "runner_waits_on": process.waits_on or None,
        "runner_still_s": _rounded(runner.still.for_s),
        "runner_cpu_ticks": process.cpu_ticks,
        "runner_moved_bytes": process.moved_bytes,
        "runner_answering": runner.look.answering.value,
        "runner_unanswered": runner.unanswered,
        "runner_unanswered_s": _rounded(runner.unanswered_s),
        "runner_slots_busy": None if slots is None else int(slots.is_busy),
        "runner_unmoved_s": _rounded(runner.unmoved_s),
        "runner_connections": None if runner.look.connections is None else len(runner.look.connections),
        "runner_idle_s": _rounded(runner.idle_s),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
