"""The rows of the fault table (facts/ollama.md §7) as scenarios: what is broken, and what must be seen afterwards.

A row only says; healing_play.py plays it and looks. Limits are those of healing_ground.SHORT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from tests.engine.healing_injections import (
    answering_and_unloaded,
    deleted_for_ever,
    dying_in_answers,
    engine_frozen,
    engine_frozen_again,
    engine_killed,
    fake_orphan,
    frozen_busy,
    frozen_busy_again,
    frozen_idle,
    frozen_load,
    hanging_load,
    loaded,
    loaded_and_unloaded,
    orphan,
    poisoned,
    stuck_compute,
    turned_away,
    waiting_load,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from tests.engine.healing_ground import HealingGround
    from tests.engine.healing_injections import Fault

    Injection = Callable[[HealingGround], AbstractContextManager[Fault]]

REAL, FAKE_24, FAKE_34 = "0.34.4", "fake 0.24", "fake 0.34"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario.

    `number`: the row of facts/ollama.md §7. `fault`: what was broken, in words. `kind` and `action`: of the incident;
    the result must be one of `results`. `bound_s`: from the fault to the closed incident. `victim`: what becomes of
    the client that was hit, `waiting` of a second one that asked for the same model after the fault: one that is let
    into the queue of a runner whose HTTP answers shares the fate of the first; one that a silent runner keeps outside
    gets its answer from the next runner. `keeps_engine`: no restart; then another model goes on answering all the time,
    unless it `other_pauses`; without `other_answers` there is none. `also`: kinds of incidents that may come along.
    `engine`: over which; `modes` of the fake one, and more options of its mode `runners`; `is_well_anew`: after a
    restart it has no such mode. Without `answers_after` nothing can be answered while the fault lasts.
    """

    name: str
    number: str
    fault: str
    inject: Injection
    kind: Kind
    action: Cure
    bound_s: float
    victim: str = "none"  # "none", "goes on", "is told", "waits"
    waiting: str = "none"  # as `victim`
    results: tuple[str, ...] = ("cured",)
    keeps_engine: bool = True
    other_answers: bool = True
    other_pauses: bool = False
    also: frozenset[str] = frozenset()
    engine: str = REAL
    modes: str = ""
    runners: str = ""
    is_commanded: bool = False
    is_well_anew: bool = False
    answers_after: bool = True
    env: Mapping[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, {self.engine}"


STUCK_S, SILENT_S, LOAD_STUCK_S = 4.0, 3.0, 4.0
LOOKS_S = (
    7.0  # two looks until it is found, two until it is over, with questions that wait a second, on a busy box
)
SPINS_S = 8.0  # the threads of two models spin on all cores: a question in five waits 0.1 to 0.6 s, seen on an idle box
CONTINUES_S = 5.0 + LOOKS_S  # until it is clear that SIGCONT did not help
RESTART_S = 15.0

ROWS = (
    Row(
        "compute stuck", "1", "one thread of a busy runner stands still, its HTTP answers", stuck_compute,
        Kind.RUNNER_STUCK, Cure.END_RUNNER, STUCK_S + LOOKS_S + 2, "is told", waiting="is told",
    ),
    Row(
        "runner stopped, busy", "2", "SIGSTOP of a busy runner", frozen_busy,
        Kind.RUNNER_FROZEN, Cure.CONTINUE, SILENT_S + LOOKS_S + SPINS_S, "goes on",
    ),
    Row(
        "runner stopped again, busy", "2", "SIGSTOP of a busy runner after each SIGCONT", frozen_busy_again,
        Kind.RUNNER_FROZEN, Cure.END_RUNNER, SILENT_S + CONTINUES_S + LOOKS_S, "is told",
    ),
    Row(
        "runner stopped, idle", "3", "SIGSTOP of an idle runner", frozen_idle,
        Kind.RUNNER_FROZEN, Cure.CONTINUE, SILENT_S + LOOKS_S + 5,
    ),
    Row(
        "load stopped", "6", "SIGSTOP of a runner while it loads", frozen_load,
        Kind.LOAD_STUCK, Cure.CONTINUE, LOAD_STUCK_S + LOOKS_S + 2, "goes on", waiting="goes on",
    ),
    Row(
        "load hangs", "6", "a runner that sleeps instead of loading", hanging_load,
        Kind.LOAD_STUCK, Cure.END_RUNNER, LOAD_STUCK_S + LOOKS_S + 2, "is told", waiting="goes on",
        is_commanded=True,
    ),
    Row(
        "runner dies thrice", "7", "SIGKILL of a runner in three answers", dying_in_answers,
        Kind.RUNNERS_KEEP_DYING, Cure.NONE, LOOKS_S + 5, "is told", results=("noted",),
        also=frozenset({Kind.RUNNER_DIED.value}),
    ),
    Row(
        "engine stopped", "9", "SIGSTOP of the engine", engine_frozen,
        Kind.ENGINE_FROZEN, Cure.CONTINUE, SILENT_S + LOOKS_S + 3, other_pauses=True,
    ),
    Row(
        "engine stopped again", "9", "SIGSTOP of the engine after each SIGCONT", engine_frozen_again,
        Kind.ENGINE_FROZEN, Cure.RESTART_ENGINE, SILENT_S + CONTINUES_S + RESTART_S, keeps_engine=False,
    ),
    Row(
        "orphan", "10", "a runner below nobody, with our marker", orphan,
        Kind.RUNNER_ORPHANED, Cure.END_RUNNER, SILENT_S + LOOKS_S + 2, is_commanded=True,
    ),
    Row(
        "deleted while loaded", "20", "a model loaded for ever is deleted", deleted_for_ever,
        Kind.MODEL_DELETED, Cure.END_RUNNER, STUCK_S + LOOKS_S + 4,
    ),
    Row(
        "engine killed", "–", "SIGKILL of the engine in an answer", engine_killed,
        Kind.ENGINE_CRASHED, Cure.RESTART_ENGINE, RESTART_S, "is told", results=("cured", "recovered"),
        keeps_engine=False,
    ),
    *(
        row
        for engine in (FAKE_24, FAKE_34)
        for row in (
            Row(
                "stopping never ends", "1", "a model that stays listed past its time, idle", loaded_and_unloaded,
                # of a connection that Go keeps for 90 s nobody knows that it is no request
                Kind.RUNNER_STUCK if engine == FAKE_24 else Kind.STOPPING_STUCK, Cure.END_RUNNER,
                STUCK_S + 10 + LOOKS_S, engine=engine, modes="stuck_stopping",
            ),
            Row(
                "leaked runner", "10", "two runners of one blob", loaded,
                Kind.RUNNER_LEAKED, Cure.END_RUNNER, STUCK_S + LOOKS_S + 4, engine=engine, modes="leaked_runner",
            ),
            Row(
                "orphan", "10", "a runner below nobody, with our marker", fake_orphan,
                Kind.RUNNER_ORPHANED, Cure.END_RUNNER, SILENT_S + LOOKS_S + 4, engine=engine,
                modes="orphan_runner",
            ),
            Row(
                "queue full of nothing", "26", "503 `server busy` with nothing behind it", turned_away,
                Kind.SCHEDULER_STUCK, Cure.RESTART_ENGINE, STUCK_S + LOOKS_S + RESTART_S, keeps_engine=False,
                other_answers=False, engine=engine, modes="queue_full", is_well_anew=True,
            ),
            Row(
                "poison model", "21", "a model whose load kills the engine, twice", poisoned,
                Kind.MODEL_QUARANTINED, Cure.NONE, LOOKS_S + 10, "is told", results=("noted",),
                keeps_engine=False, other_answers=False, also=frozenset({Kind.ENGINE_CRASHED.value}),
                engine=engine, modes="poison,model=tiny:latest",
            ),
            Row(
                "runner stopped again, busy", "2", "SIGSTOP of a busy runner after each SIGCONT", frozen_busy_again,
                Kind.RUNNER_FROZEN, Cure.END_RUNNER, SILENT_S + CONTINUES_S + LOOKS_S, "is told", engine=engine,
            ),
        )
    ),
    Row(
        "compute stuck", "1", "a request that stands still, past its keep-alive", answering_and_unloaded,
        Kind.RUNNER_STUCK, Cure.END_RUNNER, 2 * STUCK_S + LOOKS_S, "is told", engine=FAKE_24,
        modes="stuck_compute,model=tiny:latest",
    ),
    Row(
        "compute stuck", "1", "counters that stand still, a runner that answers", answering_and_unloaded,
        Kind.RUNNER_STUCK, Cure.END_RUNNER, STUCK_S + LOOKS_S + 2, "is told", engine=FAKE_34,
        modes="stuck_compute,model=tiny:latest",
    ),
    Row(
        "loads die without end", "5", "a runner dead before it was ready, and a client that waits", waiting_load,
        Kind.LOAD_DIED, Cure.RESTART_ENGINE, 10 + LOOKS_S + RESTART_S, "is told", keeps_engine=False,
        other_answers=False, also=frozenset({Kind.RUNNER_DIED.value}), engine=FAKE_24,
        modes="dying_loads,times=1", is_well_anew=True,
    ),
    Row(
        "load hangs", "6", "a load that neither reads nor computes, which ≤ 0.29 ends itself", waiting_load,
        Kind.LOAD_STUCK, Cure.NONE, LOAD_STUCK_S + LOOKS_S + 4, "waits", results=("noted", "gave_up"),
        other_answers=False, engine=FAKE_24, runners=",load=still,load_s=600", answers_after=False,
    ),
)  # fmt: skip
