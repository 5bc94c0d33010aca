"""What befalls the simulated box for real, as facts/ollama.md §7 tells it: what is seen of each, and what it heeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from arasul_supervisor.healing.diagnosis.verdicts import Cure
from tests.engine.simulated_runner import TICKS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.healing.treatment.casebook import Ordered
    from tests.engine.simulated_box import Box
    from tests.engine.simulated_runner import SimulatedRunner


class Fault(Protocol):
    """Something that is wrong."""

    def go_on(self, step_s: float) -> None:
        """One more step of it."""
        ...


@dataclass(slots=True)
class Stuck:
    """Row 1: the thread that computes waits for ever. `spins`: it asks a GPU again and again."""

    runner: SimulatedRunner
    spins: bool = False

    def __post_init__(self) -> None:
        self.runner.pace = 0.0

    def go_on(self, step_s: float) -> None:
        """Nothing moves but the ticks of a thread that spins."""
        self.runner.process.cpu_ticks += TICKS_PER_S * step_s if self.spins else 0.0


@dataclass(slots=True)
class Frozen:
    """Rows 2, 3: the whole process stands, in that state; what else it heeds is set on the runner."""

    runner: SimulatedRunner
    state: str = "T"

    def __post_init__(self) -> None:
        self.runner.pace, self.runner.answers = 0.0, False
        self.runner.process.state = self.state

    def go_on(self, step_s: float) -> None:
        """Nothing moves."""


@dataclass(slots=True)
class LoadStuck:
    """Row 6: a load that neither reads nor computes any more. `heeds_cancel`: Ollama ends it when its client leaves."""

    box: Box
    model: str = "loading:latest"
    state: str = "S"
    is_own: bool = False
    heeds_cancel: bool = True
    runner: SimulatedRunner = field(init=False)

    def __post_init__(self) -> None:
        self.runner = self.box.start_runner(self.model)
        self.runner.process.state = self.state
        if self.is_own:
            self.box.own_load = self.model
        self.box.after_cure = self._take

    def go_on(self, step_s: float) -> None:
        """Nothing moves, unless it had only been stopped."""
        if self.state == "T" and self.runner.process.state != "T" and not self.runner.is_ready:
            self.box.end_load(self.runner, keep_alive_s=float("inf"))

    def _take(self, order: Ordered) -> None:
        if order.cure is Cure.CANCEL_LOAD and self.heeds_cancel:
            self.runner.is_dead = True
        if self.runner.is_dead:
            self.box.own_load = None


@dataclass(slots=True)
class LoadDied:
    """Row 5, ≤ 0.29: the runner of a load died at once; the log tells of it without end, and no load goes on."""

    box: Box
    is_own: bool = False
    heeds_cancel: bool = True
    is_over: bool = False
    generation: int = field(init=False)

    def __post_init__(self) -> None:
        self.generation = self.box.generation
        if self.is_own:
            self.box.own_load = "dying:latest"
        self.box.after_cure = self._take

    def go_on(self, step_s: float) -> None:
        """A hundred lines a second."""
        self.is_over = self.is_over or self.box.generation != self.generation
        if not self.is_over:
            self.box.outcomes["runner_died"] = (1, self.box.now_mono)

    def _take(self, order: Ordered) -> None:
        self.is_over = self.is_over or (order.cure is Cure.CANCEL_LOAD and self.heeds_cancel)


@dataclass(slots=True)
class EngineStands:
    """Row 9: the engine answers nobody: stopped (T), asleep (S, D), or in a loop (`spins`)."""

    box: Box
    state: str = "S"
    spins: bool = False
    generation: int = field(init=False)

    def __post_init__(self) -> None:
        self.generation = self.box.generation
        self.box.does_engine_answer, self.box.engine.state = False, self.state

    def go_on(self, step_s: float) -> None:
        """Its ticks, if it runs in circles."""
        if self.spins and self.box.generation == self.generation:
            self.box.engine.cpu_ticks += TICKS_PER_S * step_s
            self.box.engine.is_runnable = True


@dataclass(slots=True)
class SchedulerStuck:
    """Row 26 with nothing behind it: nothing works or loads, and requests are turned away, or a load of ours waits."""

    box: Box
    is_own: bool = False
    generation: int = field(init=False)

    def __post_init__(self) -> None:
        self.generation = self.box.generation
        if self.is_own:
            self.box.own_load = "waiting:latest"

    def go_on(self, step_s: float) -> None:
        """503 after 503."""
        if self.box.generation != self.generation:
            self.box.own_load = None
        elif not self.is_own:
            count, _ = self.box.outcomes.get("too_many_requests", (0, 0.0))
            self.box.outcomes["too_many_requests"] = (count + 1, self.box.now_mono)


@dataclass(slots=True)
class Again:
    """A fault that comes back with each new runner of a model, and with each new engine."""

    box: Box
    model: str
    befall: Callable[[SimulatedRunner], Fault]
    comes_back_after_s: float = 4.0

    def go_on(self, step_s: float) -> None:
        """Another runner is loaded, and has it at once."""
        runner = self.box.runner_of(self.model)
        if not self.box.is_engine_up:
            return
        if runner is None:
            runner = self.box.loaded_runner(self.model)
            self.box.open_request(runner)
            runner.is_busy = True
        if runner.pace > 0:
            self.befall(runner)


def leak(box: Box, runner: SimulatedRunner) -> None:
    """Row 10: Ollama forgets a runner that goes on serving."""
    runner.is_listed = False


def orphan(box: Box, model: str = "orphan:latest") -> SimulatedRunner:
    """Row 10: a runner that has lost its engine."""
    runner = box.loaded_runner(model)
    runner.is_listed, runner.is_orphan = False, True
    box.store.pop(model, None)
    return runner


def never_unloaded(box: Box, runner: SimulatedRunner, *, heeds_unload: bool = True) -> None:
    """Its time is over, and Ollama does not end it."""
    runner.is_unloaded_in_time, runner.heeds_unload = False, heeds_unload
    box.renew(runner, 0.0)


def deleted_for_ever(box: Box, runner: SimulatedRunner) -> None:
    """Row 20: removed from the disk while it is loaded for ever."""
    box.renew(runner, float("inf"))
    box.store.pop(runner.model)
