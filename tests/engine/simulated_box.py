"""A box with an engine and its runners that exists only as numbers: hours of it pass in milliseconds.

It plays what the witnesses would see, and takes what the ladder orders. What happens in it are acts: the work of its
models (simulated_acts.py), the weather around them (simulated_weather.py), and faults (simulated_faults.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.diagnosis.verdicts import Cure
from arasul_supervisor.healing.looking.witnesses import (
    STOPPED,
    TRACED,
    Answering,
    EngineLook,
    GpuLook,
    LogLook,
    Look,
    MemoryLook,
    ModelsLook,
    RunnerLook,
    SlotsLook,
    Witness,
    told,
)
from arasul_supervisor.ollama.models import LoadedModel
from tests.engine.simulated_runner import SimulatedProcess, SimulatedRunner, blob_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.treatment.casebook import Ordered

GIB: Final = 1 << 30
POOLED_S: Final = 90.0
"""Go's HTTP client keeps an idle connection for so long: an engine ≤ 0.29 reaches its runners through it."""
QUESTION_BYTES: Final = 245
"""What a runner ≤ 0.29, a Go program, reads and writes for one `GET /health`, as its /proc/PID/io counts (measured)."""
POLLS_PER_S: Final = 4.0
"""How often Ollama asks a runner that loads."""
_ODD_EVERY_S, _SELDOM_EVERY_S = 5.0, 60.0
_RESTART_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Cured:
    """A cure that was ordered, of what, and for which model; None where it was the engine's."""

    at_mono: float
    cure: Cure
    kind: str
    model: str | None


@dataclass(slots=True)
class Box:
    """The whole box. `is_llama_server`: which generation of Ollama it plays; `has_slots`: `/slots` may be switched off.

    `pace`: the share of a processor that anything gets. `gpu_load_known`: None on a box without a GPU.
    `client_unread_bytes`: of answers that its clients do not read.
    `store`: the weights of each installed name. `dies_after_s`: from an unload to the end of the process.
    `after_cure`: how a fault takes a cure, beyond what every process does.
    """

    is_llama_server: bool = True
    has_slots: bool = True
    gpu_load_known: bool | None = None
    max_loaded: int = 3
    dies_after_s: float = 0.5
    now_mono: float = 1000.0
    wall_offset_s: float = 1.7e9
    pace: float = 1.0
    generation: int = 1
    engine: SimulatedProcess = field(default_factory=lambda: SimulatedProcess(100, 1))
    is_engine_up: bool = True
    engine_back_mono: float = 0.0
    missed_beats: int = 0
    does_engine_answer: bool = True
    engine_wakes: bool = True
    proc_answers: bool = True
    does_ps_answer: bool = True
    is_gpu_busy: bool = False
    gpu_state: str = "ok"
    runners: list[SimulatedRunner] = field(default_factory=list)
    store: dict[str, str] = field(default_factory=dict)
    memory: MemoryLook | None = None
    outcomes: dict[str, tuple[int, float]] = field(default_factory=dict)
    own_load: str | None = None
    client_unread_bytes: int = 0
    cured: list[Cured] = field(default_factory=list)
    after_cure: Callable[[Ordered], None] | None = None
    next_number: int = 200
    models_told: Witness[ModelsLook] = field(default_factory=Witness)
    listed_when_told: tuple[tuple[int, bool], ...] = ()

    # what its inhabitants do

    def number(self) -> int:
        """One that nobody had: a pid, a port, a task."""
        self.next_number += 1
        return self.next_number

    def start_runner(self, model: str) -> SimulatedRunner:
        """A runner that begins to load."""
        self.store.setdefault(model, blob_of(model))
        process = SimulatedProcess(self.number(), int(self.now_mono * 100) + self.next_number)
        runner = SimulatedRunner(process, model, port=30_000 + process.pid, blob=self.store[model])
        self.runners.append(runner)
        return runner

    def loaded_runner(self, model: str, *, keep_alive_s: float = float("inf")) -> SimulatedRunner:
        """A runner that is ready and listed."""
        runner = self.start_runner(model)
        self.end_load(runner, keep_alive_s=keep_alive_s)
        return runner

    def end_load(self, runner: SimulatedRunner, *, keep_alive_s: float) -> None:
        """It is ready, and Ollama lists it."""
        runner.is_ready = runner.is_listed = True
        self.renew(runner, keep_alive_s)

    def renew(self, runner: SimulatedRunner, keep_alive_s: float) -> None:
        """Ollama writes when it goes, at the end of each request: one date, and one timer that no clock moves."""
        runner.expires_at = self.now_wall + min(keep_alive_s, 1e10)
        runner.due_mono = self.now_mono + keep_alive_s

    def unload(self, runner: SimulatedRunner) -> None:
        """Ollama forgets it at once, and its process ends soon after."""
        runner.is_listed, runner.dies_mono = False, self.now_mono + self.dies_after_s

    def open_request(self, runner: SimulatedRunner) -> int:
        """A connection of Ollama's: a new one, or on ≤ 0.29 one that was kept."""
        peer = runner.pooled.popitem()[0] if runner.pooled else self.number()
        runner.connections.add(peer)
        return peer

    def close_request(self, runner: SimulatedRunner, peer: int) -> None:
        """≥ 0.30 closes the connection with the answer, ≤ 0.29 keeps it for a while."""
        if self.is_llama_server:
            runner.connections.discard(peer)
        else:
            runner.pooled[peer] = self.now_mono + POOLED_S

    def runner_of(self, model: str) -> SimulatedRunner | None:
        """The one that Ollama would send a request for that model to."""
        return next((one for one in self.runners if one.model == model and one.is_listed), None)

    def pass_time(self, step_s: float) -> None:
        """The clocks go on, and what has no act of its own."""
        self.now_mono += step_s
        self.is_gpu_busy = False
        if not self.is_engine_up and self.now_mono >= self.engine_back_mono:
            self._come_back()
        for runner in self.runners:
            self._pass_time_of(runner, step_s)
        self.runners = [runner for runner in self.runners if not runner.is_dead]
        if self.does_engine_answer:
            self.missed_beats = 0
            self.engine.cpu_ticks, self.engine.moved_bytes = (
                self.engine.cpu_ticks + 0.02 * step_s,
                self.engine.moved_bytes + int(300 * step_s),
            )
        else:
            self.missed_beats += max(1, round(step_s))

    def crash(self) -> None:
        """The engine ends, and with it all that its group holds; what no signal reaches is left without a parent."""
        self.is_engine_up, self.engine_back_mono = False, self.now_mono + _RESTART_S
        for runner in self.runners:
            runner.is_dead, runner.is_orphan = not runner.survives_kill, True
            runner.is_listed = False
            runner.connections.clear()
        self.runners = [runner for runner in self.runners if not runner.is_dead]
        if self.runners:  # FATAL `unkillable`: nothing is started beside what is left
            self.engine_back_mono = float("inf")

    # what is seen of it, and done to it

    @property
    def now_wall(self) -> float:
        """The clock on the wall."""
        return self.now_mono + self.wall_offset_s

    def look(self, history: History) -> Look:
        """What the witnesses say now; asks runners and Ollama as often as the observer does."""
        gpu = self._gpu()
        if not self.is_engine_up:
            return Look(self.now_mono, self.now_wall, None, gpu=gpu, memory=self.memory)
        runners: Witness[tuple[RunnerLook, ...]] = Witness(None, None, "/proc did not answer in time")
        if self.proc_answers:
            runners = told(tuple(self._look_at(runner, history) for runner in self.runners), self.now_mono)
        return Look(
            self.now_mono,
            self.now_wall,
            EngineLook(
                self.generation,
                self.engine.look(is_starved=self.pace < 1) if self.proc_answers else None,
                self.missed_beats,
                3600.0,
                is_llama_server=self.is_llama_server,
                unread_bytes=self.client_unread_bytes if history.needs_unread else None,
            ),
            runners=runners,
            models=self._models(history),
            gpu=gpu,
            memory=self.memory,
            log=LogLook(dict(self.outcomes)),
            own_load=self.own_load,
        )

    def apply(self, event: Ordered) -> None:
        """What a cure does to this box."""
        runner = next((one for one in self.runners if one.process.identity == event.verdict.runner), None)
        model = runner.model if runner else event.verdict.model
        self.cured.append(Cured(self.now_mono, event.cure, event.verdict.kind.value, model))
        if event.cure is Cure.RESTART_ENGINE:
            self.crash()
        elif event.cure is Cure.CANCEL_LOAD:
            self.own_load = None
        elif event.cure is Cure.CONTINUE and runner is None and self.engine_wakes:
            self.engine.state, self.does_engine_answer = "S", True
        elif runner is not None:
            runner.take(event.cure)
        if self.after_cure is not None:
            self.after_cure(event)

    def _pass_time_of(self, runner: SimulatedRunner, step_s: float) -> None:
        for peer in [peer for peer, until_mono in runner.pooled.items() if until_mono <= self.now_mono]:
            del runner.pooled[peer]
            runner.connections.discard(peer)
        is_over = runner.is_ready and not runner.is_in_use and self.now_mono >= runner.due_mono
        if is_over and runner.is_listed and runner.is_unloaded_in_time and self.does_engine_answer:
            self.unload(runner)
        if runner.dies_mono is not None and self.now_mono >= runner.dies_mono and not runner.survives_kill:
            runner.is_dead = True
        if not self.is_llama_server and not runner.is_ready and runner.answers:
            runner.process.moved_bytes += int(POLLS_PER_S * step_s * QUESTION_BYTES)

    def _come_back(self) -> None:
        self.is_engine_up, self.does_engine_answer, self.generation = True, True, self.generation + 1
        self.engine = SimulatedProcess(self.number(), int(self.now_mono * 100))
        self.outcomes, self.missed_beats, self.models_told = {}, 0, Witness()

    def _look_at(self, runner: SimulatedRunner, history: History) -> RunnerLook:
        before = history.runners.get(runner.process.identity)
        is_asked = before is None or before.is_loading or bool(before.unanswered) or bool(runner.connections)
        answering, slots = Answering.UNASKED, None
        if is_asked or int(self.now_mono) % 5 < 2:
            answering, slots = self._answer_of(runner)
        return RunnerLook(
            runner.process.look(is_starved=self.pace < 1),
            runner.port,
            runner.blob,
            answering,
            slots,
            frozenset(runner.connections),
            runner.unread_bytes,
            runner.is_orphan,
        )

    def _answer_of(self, runner: SimulatedRunner) -> tuple[Answering, SlotsLook | None]:
        if not runner.answers or runner.process.state in (STOPPED, TRACED) or self.pace < 1:
            return Answering.SILENT, None
        runner.process.cpu_ticks += 0.04
        if not self.is_llama_server:
            runner.process.moved_bytes += QUESTION_BYTES
        if not runner.is_ready:
            return Answering.LOADING, None
        if runner.connections and self.has_slots and self.is_llama_server:
            return Answering.READY, SlotsLook(runner.is_busy, (runner.progress,))
        return Answering.READY, None

    def _models(self, history: History) -> Witness[ModelsLook]:
        """Asked when the runners changed, often while the answer does not fit them, and seldom otherwise."""
        seen = tuple((one.process.pid, one.is_ready) for one in self.runners)
        age_s = self.models_told.age_s(self.now_mono)
        if age_s is not None and seen == self.listed_when_told:
            value = self.models_told.value
            is_odd = value is not None and (
                len(value.loaded) != len(self.runners)
                or bool(value.missing)
                or any(left_s < age_s for left_s in value.expires_in_s.values())
                or any(one.unlisted_s > 0 for one in history.runners.values())
            )
            if age_s < (_ODD_EVERY_S if is_odd else _SELDOM_EVERY_S):
                return self.models_told
        if self.does_ps_answer and self.does_engine_answer:
            self.models_told, self.listed_when_told = told(self._listed(), self.now_mono), seen
        return self.models_told

    def _listed(self) -> ModelsLook:
        listed = [one for one in self.runners if one.is_listed]
        return ModelsLook(
            loaded=tuple(
                LoadedModel(
                    one.model,
                    GIB,
                    GIB if one.is_on_gpu else 0,
                    2048,
                    f"at {one.expires_at:.3f}",
                    f"sha256:{one.model}",
                )
                for one in listed
            ),
            expires_in_s={one.model: one.expires_at - self.now_wall for one in listed},
            blobs={
                one.model: frozenset({self.store[one.model]}) for one in listed if one.model in self.store
            },
            missing=frozenset(one.model for one in listed if one.model not in self.store),
            installed_blobs=frozenset(self.store.values()),
        )

    def _gpu(self) -> GpuLook | None:
        if self.gpu_load_known is None:
            return None
        load = (97.0 if self.is_gpu_busy else 0.0) if self.gpu_load_known else None
        return GpuLook(self.gpu_state, self.gpu_state == "ok", True, load, "")
