"""Guards DESIGN §9: every fault, befalling one model of a busy box at any instant, is found within its bound and cured
by the gentlest cure that helps, and costs no other model anything that it need not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind
from tests.engine.simulated_acts import Answer, Hardware, Load, Rest
from tests.engine.simulated_attendant import Attendant
from tests.engine.simulated_box import Box
from tests.engine.simulated_faults import (
    EngineStands,
    Fault,
    Frozen,
    LoadDied,
    LoadStuck,
    SchedulerStuck,
    Stuck,
    deleted_for_ever,
    leak,
    never_unloaded,
    orphan,
)
from tests.engine.simulated_life import Household, Life, live_through

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.engine.simulated_runner import SimulatedRunner

CONTINUE, CANCEL, UNLOAD, END, RESTART = (
    Cure.CONTINUE,
    Cure.CANCEL_LOAD,
    Cure.UNLOAD,
    Cure.END_RUNNER,
    Cure.RESTART_ENGINE,
)
VICTIM = "victim:latest"
FEW_LOOKS_S = 6.0
BUSY = Answer(batches=2, tokens=400, token_s=0.5, keep_alive_s=1e10)
CPU, GPU, QUIET = Hardware("cpu"), Hardware("gpu"), Hardware("gpu_quiet")
OLD = {"is_llama_server": False, "has_slots": False}


@dataclass(frozen=True)
class Row:
    """A fault, and what has to become of it.

    `found_s`: what the limits allow. `cures`: in their order. `result`: of the first case. `is_idle`: it befalls a
    runner that rests. `rests`: the others rest too.
    """

    name: str
    begin: Callable[[Life, SimulatedRunner], Fault | None]
    kind: Kind
    found_s: float
    cures: Sequence[Cure]
    result: str = "cured"
    is_idle: bool = False
    rests: bool = False
    box: dict[str, bool] = field(default_factory=dict)
    victim: Hardware = CPU
    others: Hardware = CPU


def frozen(state: str, **traits: bool) -> Callable[[Life, SimulatedRunner], Fault]:
    def begin(_life: Life, runner: SimulatedRunner) -> Fault:
        for trait, value in traits.items():
            setattr(runner, trait, value)
        return Frozen(runner, state)

    return begin


def stuck(_life: Life, runner: SimulatedRunner) -> Fault:
    return Stuck(runner)


def spinning(_life: Life, runner: SimulatedRunner) -> Fault:
    return Stuck(runner, spins=True)


def engine(
    state: str, *, wakes: bool = True, spins: bool = False
) -> Callable[[Life, SimulatedRunner], Fault]:
    def begin(life: Life, _runner: SimulatedRunner) -> Fault:
        life.box.engine_wakes = wakes
        return EngineStands(life.box, state, spins)

    return begin


ROWS = (
    Row("a thread is stuck", stuck, Kind.RUNNER_STUCK, 60, (END,)),
    Row("a thread is stuck, no slots", stuck, Kind.RUNNER_STUCK, 160, (END,), box={"has_slots": False}),
    Row("a thread is stuck, 0.29", stuck, Kind.RUNNER_STUCK, 160, (END,), box=OLD),
    Row(
        "a thread is stuck, GPU idle",
        stuck,
        Kind.RUNNER_STUCK,
        60,
        (END,),
        box={"gpu_load_known": True},
        victim=GPU,
    ),
    Row(
        "a thread is stuck, GPU idle, 0.29",
        stuck,
        Kind.RUNNER_STUCK,
        160,
        (END,),
        box={**OLD, "gpu_load_known": True},
        victim=QUIET,
    ),
    Row(
        "a thread is stuck, GPU unknown",
        stuck,
        Kind.RUNNER_STUCK,
        600,
        (END,),
        box={"gpu_load_known": False},
        victim=GPU,
        others=GPU,
    ),
    Row(
        "a thread is stuck, others use the GPU",
        stuck,
        Kind.RUNNER_STUCK,
        600,
        (END,),
        box={"gpu_load_known": True},
        victim=GPU,
        others=GPU,
    ),
    Row("a thread spins", spinning, Kind.RUNNER_STUCK, 600, (END,), box={"gpu_load_known": True}, victim=GPU),
    Row("stopped", frozen("T"), Kind.RUNNER_FROZEN, 18, (CONTINUE,)),
    Row("stopped while idle", frozen("T"), Kind.RUNNER_FROZEN, 24, (CONTINUE,), is_idle=True),
    Row("stopped, 0.29", frozen("T"), Kind.RUNNER_FROZEN, 18, (CONTINUE,), box=OLD),
    Row("stopped, does not wake", frozen("T", wakes=False), Kind.RUNNER_FROZEN, 18, (CONTINUE, END)),
    Row(
        "stopped, heeds no signal",
        frozen("T", wakes=False, survives_kill=True),
        Kind.RUNNER_FROZEN,
        18,
        (CONTINUE, END),
        "gave_up",
    ),
    Row("in the kernel", frozen("D"), Kind.RUNNER_FROZEN, 18, (END,)),
    Row("in the kernel while idle, 0.29", frozen("D"), Kind.RUNNER_FROZEN, 24, (END,), is_idle=True, box=OLD),
    Row("asleep", frozen("S"), Kind.RUNNER_FROZEN, 62, (END,)),
    Row("asleep while idle", frozen("S"), Kind.RUNNER_FROZEN, 62, (END,), is_idle=True),
    Row("load stuck", lambda life, _: LoadStuck(life.box), Kind.LOAD_STUCK, 120, (END,)),
    Row("load stuck in D", lambda life, _: LoadStuck(life.box, state="D"), Kind.LOAD_STUCK, 120, (END,)),
    Row("own load stuck", lambda life, _: LoadStuck(life.box, is_own=True), Kind.LOAD_STUCK, 120, (CANCEL,)),
    Row(
        "own load stuck, cancelled in vain",
        lambda life, _: LoadStuck(life.box, is_own=True, heeds_cancel=False),
        Kind.LOAD_STUCK,
        120,
        (CANCEL, END),
    ),
    Row("load stuck, 0.29", lambda life, _: LoadStuck(life.box), Kind.LOAD_STUCK, 120, (), "noted", box=OLD),
    Row(
        "own load stuck, 0.29",
        lambda life, _: LoadStuck(life.box, is_own=True),
        Kind.LOAD_STUCK,
        120,
        (CANCEL,),
        box=OLD,
    ),
    Row("load stopped", lambda life, _: LoadStuck(life.box, state="T"), Kind.RUNNER_FROZEN, 18, (CONTINUE,)),
    Row("load died", lambda life, _: LoadDied(life.box), Kind.LOAD_DIED, 12, (RESTART,), box=OLD),
    Row(
        "own load died",
        lambda life, _: LoadDied(life.box, is_own=True),
        Kind.LOAD_DIED,
        12,
        (CANCEL,),
        box=OLD,
    ),
    Row(
        "never unloaded",
        lambda life, runner: never_unloaded(life.box, runner),
        Kind.STOPPING_STUCK,
        120,
        (UNLOAD,),
        is_idle=True,
    ),
    Row(
        "never unloaded, even when asked",
        lambda life, runner: never_unloaded(life.box, runner, heeds_unload=False),
        Kind.STOPPING_STUCK,
        120,
        (UNLOAD, END),
        is_idle=True,
    ),
    Row("leaked", lambda life, runner: leak(life.box, runner), Kind.RUNNER_LEAKED, 125, (END,), is_idle=True),
    Row("orphan", lambda life, _: void(orphan(life.box)), Kind.RUNNER_ORPHANED, 16, (END,)),
    Row(
        "deleted for ever",
        lambda life, runner: deleted_for_ever(life.box, runner),
        Kind.MODEL_DELETED,
        125,
        (END,),
        is_idle=True,
    ),
    Row("engine stopped", engine("T"), Kind.ENGINE_FROZEN, 16, (CONTINUE,)),
    Row("engine stopped for good", engine("T", wakes=False), Kind.ENGINE_FROZEN, 16, (CONTINUE, RESTART)),
    Row("engine asleep", engine("S"), Kind.ENGINE_FROZEN, 18, (RESTART,)),
    Row("engine in the kernel", engine("D"), Kind.ENGINE_FROZEN, 18, (RESTART,), box=OLD),
    Row("engine in a loop", engine("R", spins=True), Kind.ENGINE_FROZEN, 122, (RESTART,)),
    Row(
        "queue full for nothing",
        lambda life, _: SchedulerStuck(life.box),
        Kind.SCHEDULER_STUCK,
        62,
        (RESTART,),
        is_idle=True,
        rests=True,
    ),
    Row(
        "own load waits for nothing",
        lambda life, _: SchedulerStuck(life.box, is_own=True),
        Kind.SCHEDULER_STUCK,
        122,
        (CANCEL,),
        is_idle=True,
        rests=True,
    ),
)


def void(_: object) -> None:
    """Nothing that goes on."""


def befallen(row: Row, rng: random.Random) -> tuple[Attendant, Life, SimulatedRunner]:
    """A box at a random instant of its healthy life, and the runner that it is going to befall."""
    others = (Answer(tokens=60, token_s=0.3), Rest(1.0))
    if row.rests:
        others = (Answer(tokens=10, keep_alive_s=1e10), Rest(1e9))
    victim = (BUSY, Rest(1e9 if row.is_idle else 30.0))
    box = Box(**row.box, max_loaded=9)  # type: ignore[arg-type]  # the table's traits are those of the box
    life = Life(
        box,
        (
            Household("one:latest", row.others, Load(), others),
            Household("two:latest", row.others, Load(), others),
            Household(VICTIM, row.victim, Load(), victim),
        ),
    )
    attendant = Attendant(box)
    live_through(attendant, life, rng.uniform(60.0, 250.0))

    def is_met() -> bool:
        runner = box.runner_of(VICTIM)
        is_busy = runner is not None and runner.is_busy
        is_idle = runner is not None and not runner.connections and runner.is_ready
        return is_idle if row.is_idle else is_busy

    live_through(attendant, life, 600.0, until=is_met)
    runner = box.runner_of(VICTIM)
    assert runner is not None and is_met() and attendant.events == []
    return attendant, life, runner


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_is_found_in_time_and_cured_gently(row: Row, rng: random.Random) -> None:
    attendant, life, runner = befallen(row, rng)
    begun_mono = life.box.now_mono
    fault = row.begin(life, runner)
    life.faults += [fault] if fault else []

    live_through(attendant, life, 1000.0, until=lambda: bool(attendant.closed()))

    found_s = attendant.opened()[0][0] - begun_mono
    told = (attendant.opened()[0][1].verdict.kind, attendant.cures(), attendant.closed()[0][1].result)
    touched = {cured.model for cured in life.box.cured if cured.cure is END}
    assert told == (row.kind, list(row.cures), row.result), attendant.events
    assert found_s <= row.found_s + FEW_LOOKS_S
    assert touched <= {runner.model, "loading:latest", "orphan:latest"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_box_that_was_cured_lives_on_without_a_cure(row: Row, rng: random.Random) -> None:
    attendant, life, runner = befallen(row, rng)
    fault = row.begin(life, runner)
    life.faults += [fault] if fault else []
    live_through(attendant, life, 1000.0, until=lambda: bool(attendant.closed()))
    done = len(attendant.events)

    live_through(attendant, life, 240.0)

    assert [
        event for _, event in attendant.events[done:] if event.verdict.kind is not Kind.RUNNER_ORPHANED
    ] == []
