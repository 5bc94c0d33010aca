"""Asks the witnesses: what passes by first, a question only where it costs nothing or is needed.

Nothing here waits for a sick one: each witness has its bound, and all are asked side by side.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from arasul_supervisor.healing.looking.witnesses import (
    EngineLook,
    GpuLook,
    LogLook,
    Look,
    MemoryLook,
    RunnerLook,
    Witness,
    told,
)
from arasul_supervisor.offload import Offload
from arasul_supervisor.ollama.generation import has_llama_servers
from arasul_supervisor.supervision.ports import Connections, connections_to, listener_among, unread_at
from arasul_supervisor.supervision.process_reading import look_at_process
from arasul_supervisor.supervision.runners import descendants
from arasul_supervisor.supervision.snapshot import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.healing.diagnosis.limits import Limits
    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.looking.loaded_models import LoadedModels
    from arasul_supervisor.healing.looking.runner_questions import RunnerQuestions
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.process_looks import Identity, ProcessLook, RunnerProcess
    from arasul_supervisor.supervision.process_reading import RunnerReader
    from arasul_supervisor.supervision.snapshot import Snapshot
    from arasul_supervisor.telemetry.sampler import Sampler

PROC_S: Final = 1.0
_BLOB: Final = re.compile(r"sha256-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class _ProcLook:
    """What one round of /proc told."""

    server: ProcessLook | None
    runners: tuple[RunnerProcess, ...]
    peers: Mapping[int, Connections] | None
    unread_bytes: int | None


class Observer:
    """Gathers one `Look`. Owned by the healer's task."""

    def __init__(
        self,
        engine: Engine,
        engine_log: EngineLog,
        *,
        reader: RunnerReader,
        marker: str,
        engine_port: int,
        questions: RunnerQuestions,
        models: LoadedModels,
        sampler: Sampler,
        limits: Limits,
        clock: Clock,
        cpu_wish: str | None,
        own_load: Callable[[], str | None],
    ) -> None:
        """Remember whom to ask.

        :param marker: what everything of this life of ours carries in its environment
        :param cpu_wish: why the engine is meant to use no GPU
        :param own_load: the model that the daemon itself is loading
        """
        self._engine, self._engine_log = engine, engine_log
        self._reader, self._marker, self._questions, self._models = reader, marker, questions, models
        self._engine_port, self._server = engine_port, (0, 0)
        self._sampler, self._limits, self._clock = sampler, limits, clock
        self._cpu_wish, self._own_load = cpu_wish, own_load
        self._proc = Offload("healing-procfs")
        self._generation = 0
        self._asked_mono: dict[Identity, float] = {}

    async def look(self, history: History) -> Look:
        """All witnesses, now; what could not be asked says so."""
        snapshot = self._engine.snapshot
        if snapshot.state is not State.RUNNING or snapshot.pid is None:
            return Look(self._clock.mono(), self._clock.wall(), None, gpu=self._gpu(), memory=self._memory())
        if snapshot.generation != self._generation:
            self._generation, self._asked_mono = snapshot.generation, {}
            self._models.forget()
        seen, trouble = None, "/proc did not answer in time"
        try:
            read = partial(
                self._read_proc, snapshot, at_rest=history.at_rest, asks_unread=history.needs_unread
            )
            seen = await self._proc.call(read, timeout_s=PROC_S)
        except OSError as error:  # no descriptor is left
            trouble = f"/proc cannot be read: {error.strerror}"
        runners: Witness[tuple[RunnerLook, ...]] = Witness(None, None, trouble)
        if seen is not None:
            runners = told(await self._ask(seen.runners, seen.peers, history), self._clock.mono())
        is_same = history.engine is not None and history.generation == snapshot.generation
        models = history.look.models if history.look and is_same else Witness()
        if not snapshot.is_silent:
            models = await self._models.look(history, self._limits.period_s)
        return Look(
            self._clock.mono(),
            self._clock.wall(),
            EngineLook(
                generation=snapshot.generation,
                process=seen.server if seen else None,
                missed_beats=snapshot.missed_beats,
                ready_s=self._clock.mono() - (snapshot.ready_mono or self._clock.mono()),
                is_llama_server=has_llama_servers(snapshot.engine_version),
                unread_bytes=seen.unread_bytes if seen else None,
            ),
            runners=runners,
            models=models,
            gpu=self._gpu(),
            memory=self._memory(),
            log=self._log(snapshot),
            cpu_wish=self._cpu_wish,
            own_load=self._own_load(),
            oom_kills=snapshot.oom_kills,
        )

    async def close(self) -> None:
        """Let the thread go."""
        await self._proc.settle(timeout_s=0)

    def _read_proc(
        self, snapshot: Snapshot, *, at_rest: Collection[Identity], asks_unread: bool
    ) -> _ProcLook:
        """Runs in a thread: /proc is read through locks that a hanging driver may hold.

        Whether threads are only starved matters where somebody waits in vain: of the others a glance is enough.
        """
        engine_pid = snapshot.pid or 0
        if self._server[0] != engine_pid:
            self._server = (engine_pid, _server_pid(engine_pid, self._engine_port))
        runners = self._reader.read(engine_pid, self._marker, at_rest=at_rest)
        ports = [runner.port for runner in runners if runner.port is not None]
        return _ProcLook(
            server=look_at_process(self._server[1], is_glance=not snapshot.missed_beats),
            runners=runners,
            peers=connections_to(ports) if ports else {},
            unread_bytes=unread_at(self._engine_port) if asks_unread else None,
        )

    async def _ask(
        self, found: Sequence[RunnerProcess], peers: Mapping[int, Connections] | None, history: History
    ) -> tuple[RunnerLook, ...]:
        """Each runner with its own answer, side by side."""
        looks = [_unasked(runner, peers) for runner in found]
        self._asked_mono = {
            look.identity: self._asked_mono[look.identity]
            for look in looks
            if look.identity in self._asked_mono
        }
        return tuple(await asyncio.gather(*(self._with_answer(look, history) for look in looks)))

    async def _with_answer(self, look: RunnerLook, history: History) -> RunnerLook:
        """A runner that works on a request is asked at each look; one that rests writes a line for `/slots`, and is
        asked seldom, and only whether it lives."""
        before = history.runners.get(look.identity)
        is_settled = before is not None and not before.is_loading and not before.unanswered
        rested_s = self._clock.mono() - self._asked_mono.get(look.identity, 0.0)
        if look.port is None or (
            is_settled and not look.connections and rested_s < self._limits.ask_idle_every_s
        ):
            return look
        self._asked_mono[look.identity] = self._clock.mono()
        answering, slots = await self._questions.ask(
            look.port, wants_slots=bool(look.connections), timeout_s=self._limits.question_s
        )
        return replace(look, answering=answering, slots=slots)

    def _gpu(self) -> GpuLook | None:
        seen = self._sampler.gpu_condition()
        return GpuLook(seen.state, seen.is_well, seen.has_worked, seen.load_percent, seen.sentence)

    def _memory(self) -> MemoryLook | None:
        seen = self._sampler.memory()
        if seen is None:
            return None
        return MemoryLook(
            seen.available_bytes, seen.total_bytes, seen.is_dedicated, pressure_percent=seen.pressure_percent
        )

    def _log(self, snapshot: Snapshot) -> LogLook:
        marks = self._engine_log.marks(snapshot.generation)
        outcomes: dict[str, tuple[int, float]] = {}
        deaths: dict[str, int] = {}
        for found in self._engine_log.findings(snapshot.generation):
            count, last_mono = outcomes.get(found.outcome, (0, found.last_mono))
            outcomes[found.outcome] = (count + found.count, max(last_mono, found.last_mono))
            blob = _blob_in(found.subject)
            if found.outcome == "runner_died" and blob is not None:
                deaths[blob] = deaths.get(blob, 0) + found.count
        is_on_cpu = "running_on_cpu" in marks and "running_on_gpu" not in marks
        return LogLook(outcomes, deaths, is_on_cpu)


def _server_pid(engine_pid: int, port: int) -> int:
    """The process that serves: below a wrapper script it is not the one that we have spawned."""
    return listener_among((engine_pid, *descendants(engine_pid)), port) or engine_pid


def _unasked(runner: RunnerProcess, peers: Mapping[int, Connections] | None) -> RunnerLook:
    known = peers.get(runner.port, Connections()) if peers is not None and runner.port is not None else None
    return RunnerLook(
        runner.process,
        runner.port,
        runner.blob,
        connections=known.peers if known else None,
        unread_bytes=known.unread_bytes if known else 0,
        is_orphan=runner.is_orphan,
    )


def _blob_in(path: str | None) -> str | None:
    """The log names a model by the path of its weights, `…/blobs/sha256-<64 hex>`."""
    found = _BLOB.search(path or "")
    return f"sha256:{found[1]}" if found else None
