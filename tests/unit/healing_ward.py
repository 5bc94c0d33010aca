"""A healer with all around it as the test has it: looks, verdicts, hands, and the home it runs in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arasul_supervisor.healing.aftermath.loaded_at_death import LoadedBook
from arasul_supervisor.healing.aftermath.poison import CrashBook
from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind, Verdict
from arasul_supervisor.healing.healer import Healer
from arasul_supervisor.healing.looking.witnesses import GpuLook, Look
from arasul_supervisor.healing.treatment.home import Home, HomeKind
from tests.unit.healing_desk import Desk
from tests.unit.healing_looks import BUSY, ENGINE, LISTED, PROCESS, seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.looking.witnesses import RunnerLook
    from arasul_supervisor.supervision.process_looks import Identity

STUCK = Verdict(Kind.RUNNER_STUCK, "The runner 7 is stuck.", 1000.0, runner=PROCESS.identity, model="a")
DEEP = Verdict(Kind.SCHEDULER_STUCK, "Nothing is loaded.", 1000.0)
UNREACHABLE = Verdict(Kind.GPU_UNREACHABLE, "The GPU is out of reach.", 1000.0)
LOST_GPU = GpuLook("lost", False, True, None, "GPU 0 is lost.")
RESTART_LIMIT_S = 30.0
HOUR_S = 3600.0


class Parts:
    """All that the healer holds but the book: looks, verdicts and hands as the test has them."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.engine = desk, ENGINE
        self.runners: tuple[RunnerLook, ...] = (BUSY,)
        self.gpu: GpuLook | None = None
        self.found: tuple[Verdict, ...] = ()
        self.fault: Exception | None = None
        self.cure_fault: Exception | None = None
        self.cure_s = 0.0
        self.done: list[tuple[str, str]] = []
        self.expected: list[tuple[int, str | None]] = []
        self.memory_turns: list[tuple[bool, Mapping[Cure, str]]] = []
        self.n_probing_turns = self.n_memory_looks = self.n_closed = 0
        self.memory_fault: Exception | None = None
        self.ended_runners: frozenset[Identity] = frozenset()

    async def look(self, history: History) -> Look:
        if self.fault is not None:
            raise self.fault
        return replace(
            seen(self.desk.clock.now, *self.runners, models=LISTED, engine=self.engine), gpu=self.gpu
        )

    def end_the_runner(self) -> None:
        """By our hand."""
        self.runners, self.ended_runners = (), frozenset({PROCESS.identity})

    def log_tail(self, generation: int) -> tuple[str, ...]:
        return (f"a line of {generation}",)

    async def apply(self, cure: Cure, verdict: Verdict, history: History) -> None:
        self.done.append((cure.value, verdict.kind.value))
        self.desk.clock.now += self.cure_s
        if self.cure_fault is not None:
            raise self.cure_fault

    def expect_restart(self, generation: int, *, restored_in: str | None) -> None:
        self.expected.append((generation, restored_in))

    def verdicts(self) -> tuple[Verdict, ...]:
        return self.found

    async def close(self) -> None:
        self.n_closed += 1


class Probing:
    """Gives the verdicts of the test."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.verdicts, self.close = parts.verdicts, parts.close

    def take_turn(self, history: History) -> None:
        self._parts.n_probing_turns += 1


class Memory:
    """Notes its turns."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def see(self, history: History) -> None:
        self._parts.n_memory_looks += 1

    async def take_turn(self, history: History, *, is_acting: bool, forbidden: Mapping[Cure, str]) -> None:
        self._parts.memory_turns.append((is_acting, forbidden))
        if self._parts.memory_fault is not None:
            raise self._parts.memory_fault


class Ward(Desk):
    """A healer, and all around it."""

    def __init__(self, mode: str = "act", *, can_start_anew: bool = False, max_incidents: int = 200) -> None:
        super().__init__(max_incidents=max_incidents)
        self.parts, self.is_wanted = Parts(self), True
        self.healer = Healer(
            self.parts,  # type: ignore[arg-type]  # a stand-in
            self.parts,  # type: ignore[arg-type]  # a stand-in
            incidents=self.book,
            ends=self.parts,  # type: ignore[arg-type]  # a stand-in
            loaded=LoadedBook(),
            crashes=CrashBook(),
            memory=Memory(self.parts),  # type: ignore[arg-type]  # a stand-in
            probing=Probing(self.parts),  # type: ignore[arg-type]  # a stand-in
            home=Home(HomeKind.SHELL, can_start_anew, "Start it again."),
            limits=Limits(),
            mode=mode,
            restart_s=RESTART_LIMIT_S,
            is_wanted=lambda: self.is_wanted,
            clock=self.clock,
            log=self.log,
        )

    async def turns(self, count: int = 1, *found: Verdict) -> None:
        """So many looks, two seconds apart, that show this."""
        self.parts.found = found
        for _ in range(count):
            self.clock.now += 2.0
            await self.healer.take_turn()

    def left_earlier(self, *, ago_s: float) -> None:
        """An earlier life of the daemon left for the GPU so many seconds ago."""
        now, self.clock.now = self.clock.now, self.clock.now - ago_s
        earlier = self.book.open(UNREACHABLE.kind, what="It was lost.", evidence="It was.", action=Cure.EXIT)
        self.book.add_step(earlier, Cure.EXIT, "It was out of reach.")
        self.clock.now = now
