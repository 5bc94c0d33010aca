"""When one runner is sick. Pure; `§` is facts/ollama.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind, Verdict
from arasul_supervisor.healing.looking.witnesses import IN_KERNEL, STOPPED, TRACED

if TYPE_CHECKING:
    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.history.runner_history import RunnerHistory
    from arasul_supervisor.ollama.models import LoadedModel

QUESTIONS: Final = 3
SPINS_TIMES_LONGER: Final = 10
"""A thread that waits for a GPU may spin: then neither its ticks nor slow work are told apart in a minute."""
ONE_THREAD: Final = 1.2
IDLE_CONNECTION_S: Final = 100.0
"""Go's HTTP client keeps an idle connection for 90 s (net/http, DefaultTransport); a request lasts longer."""
_NO_GPU: Final = ("none", "no_driver")


def runner_verdict(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """What is wrong with it, the gravest; None when it works, rests, or may be doing either."""
    if runner.look.process.state == TRACED:
        return None  # a debugger holds it, or its crash is being written down
    for rule in (_orphaned, _frozen, _stuck, _load_stuck, _leaked):
        verdict = rule(runner, history, limits)
        if verdict is not None:
            return verdict
    return None


def _orphaned(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """§7 row 10: its argv and our marker say whose it was, its parents that it is nobody's now."""
    if not runner.look.is_orphan or history.look is None:
        return None
    if history.look.now_mono - runner.first_mono < limits.silent_s:
        return None
    return _verdict(
        Kind.RUNNER_ORPHANED,
        runner,
        history,
        "is a model runner of this installation and is not below Ollama any more: nobody unloads it.",
        since_mono=runner.first_mono,
    )


def _frozen(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """§7 rows 2 and 3: it answers nobody, and the kernel says that it does nothing."""
    if runner.unanswered < QUESTIONS or runner.unanswered_s < limits.silent_s:
        return None
    process, silent_s = runner.look.process, runner.unanswered_s
    is_unlisted = history.name_of(runner.look.blob) is None  # what Ollama lists was ready before we looked
    asked = f"left {runner.unanswered} questions in {silent_s:.0f} s without an answer"
    if process.state == STOPPED and runner.stopped_s >= limits.silent_s:
        seen = f"{asked}, and is stopped (state T) for {runner.stopped_s:.0f} s."
    elif runner.is_loading and is_unlisted:
        return None  # a disk that rests holds up all of it; _load_stuck knows for how long it may
    elif process.state == IN_KERNEL and runner.still.for_s >= limits.silent_s:
        seen = f"{asked}, and waits in the kernel (state D, {process.waits_on or 'unknown'})."
    elif runner.still.for_s >= limits.stuck_s:
        seen = f"{asked}, and has neither computed nor read for {runner.still.for_s:.0f} s."
    else:
        return None
    return _verdict(Kind.RUNNER_FROZEN, runner, history, seen, for_s=silent_s)


def _stuck(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """§7 row 1: it is asked to work and does not, though its own HTTP answers."""
    still_s = runner.still.for_s
    if runner.slots is not None and runner.unmoved_s >= limits.stuck_s:
        counters = f"works on a request, and its counters in /slots have stood for {runner.unmoved_s:.0f} s"
        times = SPINS_TIMES_LONGER if _may_use_gpu(runner, history, limits) else 1
        if min(still_s, runner.unmoved_s) >= times * limits.stuck_s:
            seen = f"{counters}; it has not computed for {still_s:.0f} s."
            return _verdict(Kind.RUNNER_STUCK, runner, history, seen, for_s=runner.unmoved_s)
        return _spinning(runner, history, limits, counters)
    if runner.slots is not None or runner.is_loading or still_s < limits.stuck_s:
        return None
    return _stuck_without_slots(runner, history, limits)


def _spinning(runner: RunnerHistory, history: History, limits: Limits, counters: str) -> Verdict | None:
    """One thread waits for a GPU that does nothing. Where a model lies on the CPU the GPU has nothing to do."""
    long_s = SPINS_TIMES_LONGER * limits.stuck_s
    is_one_thread = runner.unmoved_cpu_s <= ONE_THREAD * runner.unmoved_s
    if runner.unmoved_s < long_s or history.gpu_idle_s < long_s or not is_one_thread:
        return None
    if not _is_on_gpu(runner, history):
        return None
    seen = f"{counters}; one thread of it spins, and the GPU has had no load for {history.gpu_idle_s:.0f} s."
    return _verdict(Kind.RUNNER_STUCK, runner, history, seen, for_s=runner.unmoved_s)


def _stuck_without_slots(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """≤ 0.29 has no counters: an open request, a runner that does nothing, and a GPU that does nothing either."""
    is_on_gpu = _may_be_on_gpu(runner, history)
    held_s, rested_s = runner.oldest_connection_s, min(runner.still.for_s, runner.read_s)
    who, certainty = "it has not computed", Certainty.CERTAIN
    if is_on_gpu and history.is_gpu_load_known:
        rested_s, who = min(rested_s, history.gpu_idle_s), "neither it nor the GPU has computed"
    elif is_on_gpu:
        who, certainty = f"{who}, nor does anybody tell whether the GPU has", Certainty.SUSPECTED
    if not runner.look.connections or rested_s < limits.stuck_s:
        return None  # nobody asks, or something works, or a client does not read: then ≤ 0.29 waits for it
    name = history.name_of(runner.look.blob)
    # an old list may be from before the request ended
    past_s = history.past_s.get(name, 0.0) if name and history.models is not None else 0.0
    # a connection that is kept without a request would have been closed, had all been still for longer
    if min(held_s, rested_s) >= IDLE_CONNECTION_S + limits.stuck_s:
        seen = f"has had a request open for {held_s:.0f} s; {who}, for {rested_s:.0f} s."
    elif min(past_s, held_s) >= limits.stuck_s:
        seen = f"has had a request open for {held_s:.0f} s, past its time; {who}, for {rested_s:.0f} s."
    else:
        return None
    return _verdict(
        Kind.RUNNER_STUCK, runner, history, seen, for_s=min(held_s, rested_s), certainty=certainty
    )


def _load_stuck(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """§7 row 6: it is not ready, and neither reads nor computes."""
    still_s = runner.still.for_s
    if not runner.is_loading or still_s < limits.load_stuck_s or runner.look.is_orphan:
        return None
    seen = (
        f"has not become ready ({runner.look.answering.value} when asked), and has neither read nor computed for "
        f"{still_s:.0f} s."
    )
    return _verdict(Kind.LOAD_STUCK, runner, history, seen, for_s=still_s)


def _leaked(runner: RunnerHistory, history: History, limits: Limits) -> Verdict | None:
    """§7 row 10: it serves and rests, and Ollama knows nothing of it, or has a younger one for the same weights."""
    if runner.is_loading or runner.is_busy is not False or runner.idle_s < limits.stuck_s:
        return None
    younger = [
        other
        for other in history.runners.values()
        if other.look.blob == runner.look.blob is not None
        and not other.is_loading
        and other.look.identity[1] > runner.look.identity[1]
    ]
    if younger:
        seen = f"holds the same model as the younger runner {younger[0].look.process.pid}"
    elif runner.unlisted_s >= limits.stuck_s:
        seen = f"serves a model that Ollama has not listed as loaded for {runner.unlisted_s:.0f} s"
    else:
        return None
    return _verdict(
        Kind.RUNNER_LEAKED,
        runner,
        history,
        f"{seen}, and has had no request for {runner.idle_s:.0f} s.",
        for_s=runner.idle_s,
    )


def _may_use_gpu(runner: RunnerHistory, history: History, limits: Limits) -> bool:
    """Whether the GPU computes for it, as far as is known: beside that a runner may sleep (it reads an image, say)."""
    return history.gpu_idle_s < limits.stuck_s and _may_be_on_gpu(runner, history)


def _may_be_on_gpu(runner: RunnerHistory, history: History) -> bool:
    """Whether some of the model lies on the GPU, or nobody knows."""
    gpu = history.look.gpu if history.look else None
    if gpu is None or gpu.state in _NO_GPU:
        return False
    listed = _listed(runner, history)
    return listed is None or listed.size_vram_bytes > 0


def _is_on_gpu(runner: RunnerHistory, history: History) -> bool:
    """Whether most of the model lies on the GPU, by Ollama's last word."""
    listed = _listed(runner, history)
    return listed is not None and listed.size_bytes > 0 and listed.size_vram_bytes >= 0.9 * listed.size_bytes


def _listed(runner: RunnerHistory, history: History) -> LoadedModel | None:
    """The model as Ollama listed it last."""
    name = history.name_of(runner.look.blob)
    models = history.look.models.value if history.look else None
    found = [model for model in models.loaded if model.name == name] if models and name else []
    return found[0] if found else None


def _verdict(
    kind: Kind,
    runner: RunnerHistory,
    history: History,
    seen: str,
    *,
    for_s: float = 0.0,
    since_mono: float | None = None,
    certainty: Certainty = Certainty.CERTAIN,
) -> Verdict:
    name = history.name_of(runner.look.blob)
    now_mono = history.look.now_mono if history.look else 0.0
    of_model = f" of {name}" if name else ""
    return Verdict(
        kind,
        f"The runner {runner.look.process.pid}{of_model} {seen}",
        since_mono=now_mono - for_s if since_mono is None else since_mono,
        certainty=certainty,
        runner=runner.look.identity,
        model=name,
        blob=runner.look.blob,
    )
