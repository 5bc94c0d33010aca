"""What is wrong, told from slow: `diagnose(history) → verdicts`. Pure; `§` is facts/ollama.md.

Nothing is called sick by one witness, and every verdict names in one sentence what was seen. What only one of them
says is at most suspected, and never cured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.engine_rules import engine_verdicts
from arasul_supervisor.healing.diagnosis.runner_rules import runner_verdict
from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.history.runner_history import RunnerHistory
    from arasul_supervisor.healing.looking.witnesses import ModelsLook

PINNED_S: Final = 24 * 3600.0
"""A model that stays longer than a day was asked to stay for ever: Ollama writes the year 2319 (§3.2)."""


def diagnose(history: History, limits: Limits) -> tuple[Verdict, ...]:
    """All that is wrong now; empty where everything is well, or cannot be told from well."""
    if history.look is None or history.engine is None:
        return ()
    engine = tuple(engine_verdicts(history, limits))
    if any(one.kind is Kind.ENGINE_FROZEN and one.certainty is Certainty.CERTAIN for one in engine):
        return engine  # what its runners do is told by nobody now
    if history.look.runners.value is None:
        return engine  # what they did when /proc answered last may be over by now
    return (*engine, *_of_runners(history, limits), *_of_models(history, limits))


def _of_runners(history: History, limits: Limits) -> Iterable[Verdict]:
    for runner in history.runners.values():
        verdict = runner_verdict(runner, history, limits)
        if verdict is not None:
            yield verdict


def _of_models(history: History, limits: Limits) -> Iterable[Verdict]:
    models = history.models
    if models is None:
        return
    for loaded in models.loaded:
        runner = _runner_of(history, loaded.name)
        is_idle = runner is not None and runner.is_busy is False and runner.idle_s >= limits.stuck_s
        past_s = history.past_s.get(loaded.name, 0.0)
        if past_s >= limits.stuck_s and is_idle and runner is not None:
            yield _stopping_stuck(runner, loaded.name, past_s, history)
    yield from _deleted_for_ever(history, models, limits)


def _deleted_for_ever(history: History, models: ModelsLook, limits: Limits) -> Iterable[Verdict]:
    """§7 row 20. Which runner it is shows by elimination: the one whose weights no installed model has."""
    pinned = [name for name in models.missing if models.expires_in_s.get(name, 0.0) > PINNED_S]
    nobodys = [
        one
        for one in history.runners.values()
        if one.look.blob is not None
        and one.look.blob not in models.installed_blobs
        and not one.look.is_orphan
    ]
    if len(models.missing) != 1 or not pinned or len(nobodys) != 1:
        return
    if nobodys[0].is_busy is False and nobodys[0].idle_s >= limits.stuck_s:
        yield _deleted(nobodys[0], pinned[0], history)


def _runner_of(history: History, name: str) -> RunnerHistory | None:
    blobs = history.models.blobs.get(name, frozenset()) if history.models else frozenset[str]()
    found = [one for one in history.runners.values() if one.look.blob in blobs and not one.look.is_orphan]
    return found[0] if len(found) == 1 else None


def _stopping_stuck(runner: RunnerHistory, name: str, past_s: float, history: History) -> Verdict:
    now_mono = history.look.now_mono if history.look else 0.0
    return Verdict(
        Kind.STOPPING_STUCK,
        f"Ollama has listed {name} past its time for {past_s:.0f} s, and its runner {runner.look.process.pid} has had "
        f"no request for {runner.idle_s:.0f} s: it is never unloaded.",
        since_mono=now_mono - min(past_s, runner.idle_s),
        runner=runner.look.identity,
        model=name,
    )


def _deleted(runner: RunnerHistory, name: str, history: History) -> Verdict:
    now_mono = history.look.now_mono if history.look else 0.0
    return Verdict(
        Kind.MODEL_DELETED,
        f"{name} was removed from the disk while it was loaded for ever: no call unloads it any more, and its runner "
        f"{runner.look.process.pid} has had no request for {runner.idle_s:.0f} s.",
        since_mono=now_mono - runner.idle_s,
        runner=runner.look.identity,
        model=name,
    )
