"""What happens to a whole box while all is well: starvation, swapping, clocks that jump, witnesses that are silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from arasul_supervisor.healing.looking.witnesses import IN_KERNEL, TRACED, MemoryLook

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.engine.simulated_box import Box
    from tests.engine.simulated_life import Life
    from tests.engine.simulated_runner import SimulatedRunner

GIB = 1 << 30


class Weather(Protocol):
    """Something that befalls the box."""

    def play(self, life: Life) -> Generator[None, float, None]:
        """Tell it step by step; leaves all as it was."""
        ...


def lasting(box: Box, seconds: float) -> Generator[None, float, None]:
    """Until so many seconds are over."""
    end_mono = box.now_mono + seconds
    while box.now_mono < end_mono:
        yield


@dataclass(frozen=True, slots=True)
class Calm:
    """Nothing."""

    for_s: float = 300.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """Time passes."""
        yield from lasting(life.box, self.for_s)


@dataclass(frozen=True, slots=True)
class Starved:
    """Other work of the box leaves this share of a processor; the engine misses beats for `silent_s` in a row."""

    share: float = 0.001
    silent_s: float = 100.0
    times: int = 3

    def play(self, life: Life) -> Generator[None, float, None]:
        """All want a processor, and hardly get one."""
        box = life.box
        box.pace = self.share
        for _ in range(self.times):
            box.does_engine_answer = False
            yield from lasting(box, self.silent_s)
            box.does_engine_answer = True
            yield from lasting(box, 5.0)
        box.pace = 1.0


@dataclass(frozen=True, slots=True)
class RunnerSwapped:
    """A runner waits for its own pages, each of which comes after `page_s`, and answers nobody meanwhile."""

    which: int = 0
    for_s: float = 240.0
    page_s: float = 12.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """Pages come, one by one."""
        runner = life.any_runner(self.which)
        if runner is None or runner.process.state != "S":
            return
        runner.pace, runner.answers, runner.process.state = 0.0, False, IN_KERNEL
        yield from _paging(life.box, runner, self.for_s, self.page_s)
        runner.pace, runner.answers, runner.process.state = 1.0, True, "S"


@dataclass(frozen=True, slots=True)
class EngineSwapped:
    """The engine waits for its own pages."""

    for_s: float = 100.0
    page_s: float = 10.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """Pages come, one by one."""
        box, left_s = life.box, self.for_s
        box.does_engine_answer, box.engine.state = False, IN_KERNEL
        while left_s > 0:
            box.engine.major_faults += 1
            yield from lasting(box, min(self.page_s, left_s))
            left_s -= self.page_s
        box.does_engine_answer, box.engine.state = True, "S"


@dataclass(frozen=True, slots=True)
class BeatsMissed:
    """The engine stands still for a moment, in this state."""

    beats: int = 12
    state: str = "S"

    def play(self, life: Life) -> Generator[None, float, None]:
        """No answer, and no work."""
        box = life.box
        box.does_engine_answer, box.engine.state = False, self.state
        yield from lasting(box, self.beats)
        box.does_engine_answer, box.engine.state = True, "S"


@dataclass(frozen=True, slots=True)
class Debugger:
    """Somebody looks into a runner, or into the engine, and holds it."""

    which: int = 0
    for_s: float = 600.0
    is_of_engine: bool = False

    def play(self, life: Life) -> Generator[None, float, None]:
        """State t."""
        box = life.box
        if self.is_of_engine:
            box.does_engine_answer, box.engine.state = False, TRACED
            yield from lasting(box, self.for_s)
            box.engine.state = "S"
            yield  # let go, and the first answer is yet to come
            box.does_engine_answer = True
            return
        runner = life.any_runner(self.which)
        if runner is None or runner.process.state != "S":
            return
        runner.process.state, runner.pace = TRACED, 0.0
        yield from lasting(box, self.for_s)
        runner.process.state, runner.pace = "S", 1.0


@dataclass(frozen=True, slots=True)
class ClocksJump:
    """Between two looks: a paused machine (monotonic), a suspended laptop (wall), a clock that is set (wall, ±)."""

    mono_s: float = 0.0
    wall_s: float = 0.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """At once."""
        life.box.now_mono += self.mono_s
        life.box.wall_offset_s += self.wall_s
        yield


@dataclass(frozen=True, slots=True)
class ClockSlewed:
    """The clock on the wall runs faster or slower for a while, as time daemons do it."""

    for_s: float = 1200.0
    ratio: float = 0.08

    def play(self, life: Life) -> Generator[None, float, None]:
        """Less than anybody would call a step."""
        end_mono = life.box.now_mono + self.for_s
        while life.box.now_mono < end_mono:
            life.box.wall_offset_s += self.ratio * (yield)


@dataclass(frozen=True, slots=True)
class LooksLate:
    """The daemon itself is held up: its looks are so far apart."""

    step_s: float = 14.0
    for_s: float = 300.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """For a while."""
        life.step_s = self.step_s
        yield from lasting(life.box, self.for_s)
        life.step_s = None


@dataclass(frozen=True, slots=True)
class WitnessSilent:
    """/proc (`runners`) or /api/ps (`models`) cannot be read."""

    which: str = "models"
    for_s: float = 30.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """For a while."""
        box = life.box
        box.proc_answers, box.does_ps_answer = self.which != "runners", self.which != "models"
        yield from lasting(box, self.for_s)
        box.proc_answers = box.does_ps_answer = True


@dataclass(frozen=True, slots=True)
class QueueFull:
    """More is asked than the queue holds: whoever comes while something is worked on, or not read, is turned away."""

    for_s: float = 600.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """503 after 503."""
        end_mono = life.box.now_mono + self.for_s
        while life.box.now_mono < end_mono:
            if life.has_worked or life.box.client_unread_bytes:
                count, _ = life.box.outcomes.get("too_many_requests", (0, 0.0))
                life.box.outcomes["too_many_requests"] = (count + 1, life.box.now_mono)
            yield


@dataclass(frozen=True, slots=True)
class MemoryShort:
    """Memory is nearly all in use, and tasks wait for it."""

    for_s: float = 300.0

    def play(self, life: Life) -> Generator[None, float, None]:
        """For a while."""
        life.box.memory = MemoryLook(GIB // 4, 8 * GIB, pressure_percent=60.0)
        yield from lasting(life.box, self.for_s)
        life.box.memory = None


def _paging(box: Box, runner: SimulatedRunner, for_s: float, page_s: float) -> Generator[None, float, None]:
    left_s = for_s
    while left_s > 0:
        runner.process.major_faults += 1
        yield from lasting(box, min(page_s, left_s))
        left_s -= page_s
