"""The life of a simulated box: its models do their acts one after the other, and the weather changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

from tests.engine.simulated_acts import RunnerGone, Scene
from tests.engine.simulated_attendant import LOOK_EVERY_S, Attendant

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from tests.engine.simulated_acts import Act, Hardware, Load
    from tests.engine.simulated_box import Box
    from tests.engine.simulated_faults import Fault
    from tests.engine.simulated_runner import SimulatedRunner
    from tests.engine.simulated_weather import Weather


@dataclass(frozen=True, slots=True)
class Household:
    """One model, what it computes on, how it is loaded, and what is asked of it, again and again."""

    model: str
    hardware: Hardware
    load: Load
    acts: tuple[Act, ...]
    first_s: float = 0.0


@dataclass(slots=True)
class Life:
    """All of it. `step_s`: how far the next looks are apart; None: as far as usual. `has_worked`: in this step."""

    box: Box
    households: Sequence[Household]
    weather: Sequence[Weather] = ()
    step_s: float | None = None
    has_worked: bool = False
    faults: list[Fault] = field(default_factory=list)
    stories: list[Generator[None, float, None]] = field(init=False)

    def __post_init__(self) -> None:
        self.stories = [self._changing(), *(self._of(household) for household in self.households)]
        for story in self.stories:
            next(story)

    def step(self, step_s: float) -> None:
        """Everything goes on by one step."""
        before = sum(runner.process.cpu_ticks for runner in self.box.runners)
        for story in self.stories:
            story.send(step_s)
        for fault in self.faults:
            fault.go_on(step_s)
        self.has_worked = sum(runner.process.cpu_ticks for runner in self.box.runners) > before + 1
        self.has_worked = self.has_worked or self.box.is_gpu_busy

    def any_runner(self, which: int) -> SimulatedRunner | None:
        """One of those that are there."""
        found = [runner for runner in self.box.runners if runner.is_listed]
        return found[which % len(found)] if found else None

    def _changing(self) -> Generator[None, float, None]:
        for weather in self.weather:
            yield from weather.play(self)
            yield from self._calm(5.0)
        while True:
            yield

    def _calm(self, seconds: float) -> Generator[None, float, None]:
        """One thing after the other: in between the engine answers at least once."""
        end_mono = self.box.now_mono + seconds
        while self.box.now_mono < end_mono:
            yield

    def _of(self, household: Household) -> Generator[None, float, None]:
        scene = Scene(self.box, household.model, household.hardware)
        yield from scene.waiting(household.first_s)
        for act in cycle(household.acts):
            try:
                yield from self._loaded(scene, household.load)
                scene.alive().is_in_use = True
                yield from act.play(scene)
            except RunnerGone:
                yield from scene.waiting(5.0)
            finally:
                if scene.runner is not None:
                    scene.runner.is_in_use = False

    def _loaded(self, scene: Scene, load: Load) -> Generator[None, float, None]:
        """Until its model is loaded: loads are serial, and one that is idle makes room."""
        while True:
            scene.runner = self.box.runner_of(scene.model)
            if scene.runner is not None:
                return
            if self._may_load():
                scene.runner = self.box.start_runner(scene.model)
                scene.runner.is_on_gpu = scene.hardware.way != "cpu"
                yield from load.play(scene)
                self.box.end_load(scene.alive(), keep_alive_s=300.0)
                return
            yield from scene.waiting(1.0)

    def _may_load(self) -> bool:
        box = self.box
        if not box.is_engine_up or not box.does_engine_answer:
            return False
        ours = [runner for runner in box.runners if not runner.is_orphan]
        if any(not runner.is_ready or runner.dies_mono is not None for runner in ours):
            return False
        idle = [runner for runner in ours if runner.is_listed and not runner.is_in_use]
        if len(ours) >= box.max_loaded and idle:
            box.unload(min(idle, key=lambda runner: runner.expires_at))
        return len(ours) < box.max_loaded


def live_through(
    attendant: Attendant, life: Life, seconds: float, *, until: Callable[[], bool] = lambda: False
) -> None:
    """Let it be lived for so long, or until then, with a look at each step."""
    end_mono = attendant.box.now_mono + seconds
    while attendant.box.now_mono < end_mono and not until():
        step_s = life.step_s or LOOK_EVERY_S
        attendant.box.pass_time(step_s)
        life.step(step_s)
        attendant.turn()
