"""When the engine as a whole is sick, or its runners in a row. Pure; `§` is facts/ollama.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Kind, Verdict
from arasul_supervisor.healing.looking.witnesses import IN_KERNEL, STOPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import EngineHistory, History

BUSY_TIMES_LONGER: Final = 8
"""An engine that computes and does not answer may be starved; after so long it is not."""
LIVE_LOCKED_SHARE: Final = 0.5
"""Of one processor: what gets so much of it is not starved."""
DYING_S: Final = 10.0
QUEUE_FULL_RECENT_S: Final = 30.0


def engine_verdicts(history: History, limits: Limits) -> Iterable[Verdict]:
    """What is wrong with the engine or its scheduler, the gravest first."""
    for verdict in (
        _frozen(history, limits),
        _load_died(history),
        _scheduler_stuck(history, limits),
    ):
        if verdict is not None:
            yield verdict


def _frozen(history: History, limits: Limits) -> Verdict | None:
    """§7 row 9: the heartbeat, which Go's HTTP server answers by itself, is not answered, and it does not work."""
    engine = history.engine
    if engine is None or history.look is None or engine.silent_s < limits.silent_s:
        return None
    seen = _what_it_does(engine, limits)
    if seen is None:
        return None
    return Verdict(
        Kind.ENGINE_FROZEN,
        f"Ollama has not answered a heartbeat for {engine.silent_s:.0f} s ({engine.look.missed_beats} missed), {seen}.",
        since_mono=history.look.now_mono - engine.silent_s,
    )


def _what_it_does(engine: EngineHistory, limits: Limits) -> str | None:
    process, still_s = engine.look.process, engine.still.for_s
    if process is None:
        return None
    if process.state == STOPPED:
        return (
            f"and its process {process.pid} is stopped (state T)"
            if engine.stopped_s >= limits.silent_s
            else None
        )
    if still_s >= limits.silent_s:
        where = f" (state {process.state}, {process.waits_on})" if process.waits_on else ""
        what = "waits in the kernel" if process.state == IN_KERNEL else "does nothing"
        return f"and its process {process.pid} {what}{where} for {still_s:.0f} s"
    long_s = BUSY_TIMES_LONGER * limits.silent_s
    has_processor = not process.is_runnable or engine.cpu_share >= LIVE_LOCKED_SHARE
    if engine.silent_s >= long_s and engine.unswapped_s >= long_s and has_processor:
        return f"though its process {process.pid} gets a processor and is not swapped out"
    return None


def _load_died(history: History) -> Verdict | None:
    """§7 row 5, ≤ 0.29: a load whose runner died at once hangs, and all others with it, until its client leaves."""
    if history.engine is None or history.look is None or history.engine.look.is_llama_server:
        return None
    if history.dying_s < DYING_S:
        return None
    return Verdict(
        Kind.LOAD_DIED,
        f"Ollama's log has told of a dead runner without end for {history.dying_s:.0f} s, and no runner loads: a load "
        "waits for it, and every other load behind that.",
        since_mono=history.look.now_mono - history.dying_s,
    )


def _scheduler_stuck(history: History, limits: Limits) -> Verdict | None:
    """Loads are serial (§4.1): where one waits, no runner loads or answers, nothing will ever happen."""
    look = history.look
    if look is None or look.engine is None or history.nothing_works_s < limits.stuck_s:
        return None
    if look.engine.unread_bytes is None:
        return None  # perhaps a client does not read: then its model stays, and all others wait for that
    count, last_mono = look.log.outcomes.get("too_many_requests", (0, float("-inf")))
    rest = f"and no runner has loaded or answered anything for {history.nothing_works_s:.0f} s."
    if history.own_load_s >= limits.load_stuck_s <= history.nothing_works_s:
        seen = f"A load of {look.own_load} has waited for {history.own_load_s:.0f} s, {rest}"
    elif look.now_mono - last_mono <= QUEUE_FULL_RECENT_S:
        seen = f"Ollama turns requests away for a full queue ({count} times), {rest}"
    else:
        return None
    return Verdict(Kind.SCHEDULER_STUCK, seen, since_mono=look.now_mono - history.nothing_works_s)
