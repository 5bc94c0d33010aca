"""Guards "passive first": which runner is asked what and when, and what of the log and the snapshot becomes a look."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.looking.observer import Observer, _blob_in
from arasul_supervisor.healing.looking.witnesses import Answering, Look, SlotsLook, Witness, told
from arasul_supervisor.logs.meaning.finding import Finding
from arasul_supervisor.ollama.generation import has_llama_servers
from arasul_supervisor.supervision.ports import Connections
from arasul_supervisor.supervision.process_looks import RunnerProcess
from arasul_supervisor.supervision.snapshot import Snapshot, State
from arasul_supervisor.telemetry.gpu_condition import GpuCondition
from tests.engine.log_ground import HandClock
from tests.unit.healing_looks import LISTED, PROCESS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from arasul_supervisor.healing.looking.witnesses import ModelsLook
    from arasul_supervisor.supervision.process_looks import Identity

HEX = "0123456789abcdef" * 4
PORT, OTHER_PORT = 30_000, 30_001
UP = Snapshot(state=State.RUNNING, generation=1, pid=1, ready_mono=990.0, engine_version="0.34.4")
BLOB_PATH = Path(f"/models/blobs/sha256-{HEX}")
WELL = GpuCondition("ok", "GPU 0 answers.", 1.0, is_well=True, has_worked=True, load_percent=3.0)


class Box:
    """All whom an observer asks, played by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.snapshot = HandClock(), UP
        self.clock.now = 1000.0
        self.found: tuple[RunnerProcess, ...] = (RunnerProcess(PROCESS, PORT, "sha256:a"),)
        self.connections: Mapping[int, Connections] | None = {PORT: Connections()}
        self.proc_fault: OSError | None = None
        self.answer: tuple[Answering, SlotsLook | None] = (Answering.READY, None)
        self.asked: list[tuple[int, bool, float]] = []
        self.n_at_once = self.n_under_way = self.n_forgotten = self.n_lists = 0
        self.told: tuple[Finding, ...] = ()
        self.seen_marks: frozenset[str] = frozenset()
        self.condition = WELL
        self.history = History()
        self.glanced_at: Collection[Identity] = ()
        monkeypatch.setattr("arasul_supervisor.healing.looking.observer.connections_to", self.connections_to)
        self.observer = Observer(
            self,  # type: ignore[arg-type]  # a stand-in
            self,  # type: ignore[arg-type]  # a stand-in
            reader=self,  # type: ignore[arg-type]  # a stand-in
            marker="a marker",
            engine_port=11434,
            questions=self,  # type: ignore[arg-type]  # a stand-in
            models=Models(self),  # type: ignore[arg-type]  # a stand-in
            sampler=self,  # type: ignore[arg-type]  # a stand-in
            limits=Limits(),
            clock=self.clock,
            cpu_wish=None,
            own_load=lambda: None,
        )

    def read(
        self, engine_pid: int, marker: str, *, at_rest: Collection[Identity]
    ) -> tuple[RunnerProcess, ...]:
        self.glanced_at = at_rest
        if self.proc_fault is not None:
            raise self.proc_fault
        return self.found

    def connections_to(self, ports: Collection[int]) -> Mapping[int, Connections] | None:
        return self.connections

    async def ask(
        self, port: int, *, wants_slots: bool, timeout_s: float
    ) -> tuple[Answering, SlotsLook | None]:
        self.asked.append((port, wants_slots, timeout_s))
        self.n_under_way += 1
        self.n_at_once = max(self.n_at_once, self.n_under_way)
        await asyncio.sleep(0)
        self.n_under_way -= 1
        return self.answer

    def marks(self, generation: int) -> frozenset[str]:
        return self.seen_marks

    def findings(self, generation: int) -> tuple[Finding, ...]:
        return self.told

    def gpu_condition(self) -> GpuCondition:
        return self.condition

    def memory(self) -> None:
        return None

    async def look(self, seconds: float = 2.0) -> Look:
        """The next look, so many seconds later."""
        self.clock.now += seconds
        look = await self.observer.look(self.history)
        self.history = self.history.after(look)
        return look

    async def looks(self, count: int) -> int:
        """How many questions so many looks put."""
        n_before = len(self.asked)
        for _ in range(count):
            await self.look()
        return len(self.asked) - n_before


class Models:
    """Lists what the box has, at each look."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def forget(self) -> None:
        self._box.n_forgotten += 1

    async def look(self, history: History, period_s: float) -> Witness[ModelsLook]:
        self._box.n_lists += 1
        return told(LISTED, self._box.clock.now)


@pytest.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Box]:
    opened = Box(monkeypatch)
    yield opened
    await opened.observer.close()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.34.4", True),
        ("0.30.0", True),
        ("0.30.0-rc1", True),
        ("1.0.0", True),
        ("0.29.9", False),
        ("0.9.1", False),
        ("0.0.0", True),  # a build from source
        ("", True),
        ("nightly", True),
        (None, True),
    ],
)
def test_the_runners_of_0_30_and_of_what_is_not_known_are_llama_servers(
    version: str | None, expected: bool
) -> None:
    assert has_llama_servers(version) is expected


@pytest.mark.parametrize(
    ("path", "blob"),
    [
        (f"/models/blobs/sha256-{HEX}", f"sha256:{HEX}"),
        (f"D:\\models\\blobs\\sha256-{HEX}", f"sha256:{HEX}"),
        (f"/models/blobs/sha256-{HEX[:-1]}", None),
        ("tiny:latest", None),
        ("", None),
        (None, None),
    ],
)
def test_weights_are_told_by_their_path(path: str | None, blob: str | None) -> None:
    assert _blob_in(path) == blob


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
async def test_an_engine_that_does_not_run_is_asked_nothing(box: Box, state: State) -> None:
    box.snapshot = replace(UP, state=state)

    look = await box.look()

    assert (look.engine, look.runners.value, box.asked, box.n_lists) == (None, None, [], 0)
    assert look.gpu is not None


async def test_a_runner_that_rests_is_asked_every_five_seconds_and_not_for_its_slots(box: Box) -> None:
    assert await box.looks(30) == 10  # a look each 2 s: each third
    assert {wants_slots for _, wants_slots, _ in box.asked} == {False}


async def test_at_a_runner_for_which_nobody_waits_a_glance_is_taken(box: Box) -> None:
    await box.looks(2)
    assert box.glanced_at == {PROCESS.identity}


@pytest.mark.parametrize(
    ("connections", "answering"),
    [
        pytest.param(Connections(frozenset({5})), Answering.READY, id="a request is open"),
        pytest.param(Connections(), Answering.SILENT, id="it left a question without an answer"),
        pytest.param(Connections(), Answering.LOADING, id="it loads"),
        pytest.param(None, Answering.READY, id="nobody tells who is connected"),
    ],
)
async def test_a_runner_for_which_somebody_may_wait_is_looked_at_closely(
    box: Box, connections: Connections | None, answering: Answering
) -> None:
    box.connections = {PORT: connections} if connections is not None else None
    box.answer = (answering, None)
    await box.looks(3)
    assert box.glanced_at == frozenset()


async def test_a_runner_with_an_open_request_is_asked_for_its_slots_at_each_look(box: Box) -> None:
    box.connections = {PORT: Connections(frozenset({5}))}

    assert await box.looks(10) == 10
    assert {wants_slots for _, wants_slots, _ in box.asked} == {True}


@pytest.mark.parametrize("answering", [Answering.LOADING, Answering.SILENT, Answering.CLOSED])
async def test_a_runner_that_is_not_ready_or_silent_is_asked_at_each_look(
    box: Box, answering: Answering
) -> None:
    box.answer = (answering, None)

    assert await box.looks(10) == 10


async def test_a_runner_that_fell_silent_is_asked_at_each_look(box: Box) -> None:
    await box.look()
    box.answer = (Answering.SILENT, None)
    await box.looks(3)

    assert await box.looks(10) == 10


async def test_a_runner_whose_requests_nobody_can_see_is_asked_like_one_at_rest(box: Box) -> None:
    box.connections = None
    await box.looks(1)

    assert await box.looks(30) == 10
    assert {wants_slots for _, wants_slots, _ in box.asked} == {False}


async def test_a_runner_of_unknown_port_is_asked_nothing(box: Box) -> None:
    box.found = (RunnerProcess(PROCESS, None, "sha256:a"),)

    look = await box.look()

    assert box.asked == []
    assert [one.answering for one in look.runners.value or ()] == [Answering.UNASKED]


async def test_a_later_process_of_the_same_pid_is_asked_at_once(box: Box) -> None:
    await box.look()
    box.found = (RunnerProcess(replace(PROCESS, identity=(7, 999)), PORT, "sha256:a"),)

    assert await box.looks(1) == 1


async def test_runners_are_asked_side_by_side_within_the_bound(box: Box) -> None:
    other = RunnerProcess(replace(PROCESS, identity=(8, 100)), OTHER_PORT, "sha256:b")
    box.found = (*box.found, other)
    await box.look()

    assert box.n_at_once == 2
    assert {timeout_s for _, _, timeout_s in box.asked} == {Limits().question_s}


async def test_an_answer_comes_with_what_the_kernel_says_of_its_runner(box: Box) -> None:
    box.connections = {PORT: Connections(frozenset({5}), unread_bytes=9)}
    box.answer = (Answering.READY, SlotsLook(True, ((1, 2, 3),)))

    (runner,) = (await box.look()).runners.value or ()

    assert (runner.connections, runner.unread_bytes, runner.blob) == (frozenset({5}), 9, "sha256:a")
    assert (runner.answering, runner.slots) == box.answer


async def test_where_proc_cannot_be_read_that_is_said_and_the_list_is_asked_all_the_same(box: Box) -> None:
    box.proc_fault = OSError(24, "Too many open files")

    look = await box.look()

    assert (look.runners.value, look.runners.trouble) == (None, "/proc cannot be read: Too many open files")
    assert look.models.value is LISTED


async def test_a_silent_engine_is_not_asked_for_its_list_and_the_last_one_keeps_its_age(box: Box) -> None:
    await box.look()
    box.snapshot = replace(UP, missed_beats=3)

    look = await box.look()

    assert box.n_lists == 1
    assert (look.models.value, look.models.age_s(look.now_mono)) == (LISTED, 2.0)


async def test_a_new_generation_that_is_silent_has_not_the_list_of_the_last_one(box: Box) -> None:
    await box.look()
    box.snapshot = replace(UP, generation=2, is_frozen=True)

    assert (await box.look()).models.value is None
    assert box.n_forgotten == 2


async def test_the_same_generation_is_not_forgotten(box: Box) -> None:
    await box.looks(3)

    assert box.n_forgotten == 1


async def test_what_the_log_tells_several_times_is_added_up_by_outcome(box: Box) -> None:
    box.told = (
        Finding("out_of_memory", "It did not fit.", 5.0, 1.0, count=2),
        Finding("out_of_memory", "Another did not fit.", 9.0, 1.0, count=1),
    )

    assert (await box.look()).log.outcomes == {"out_of_memory": (3, 9.0)}


async def test_a_dead_runner_in_the_log_is_told_by_its_weights(box: Box) -> None:
    box.told = (
        Finding("runner_died", "It ended.", 5.0, 1.0, count=2, subject=str(BLOB_PATH)),
        Finding("runner_died", "It ended.", 5.0, 1.0, subject=None),
        Finding("load_failed", "It did not load.", 5.0, 1.0, subject=str(BLOB_PATH)),
    )

    assert (await box.look()).log.deaths == {f"sha256:{HEX}": 2}


@pytest.mark.parametrize(
    ("marks", "is_on_cpu"),
    [({"running_on_cpu"}, True), ({"running_on_cpu", "running_on_gpu"}, False), (set[str](), False)],
)
async def test_it_runs_on_the_cpu_where_no_line_names_a_gpu(
    box: Box, marks: set[str], is_on_cpu: bool
) -> None:
    box.seen_marks = frozenset(marks)

    assert (await box.look()).log.is_on_cpu is is_on_cpu


async def test_the_engine_is_told_with_its_age_and_its_missed_beats(box: Box) -> None:
    box.snapshot = replace(UP, missed_beats=2, engine_version="0.29.0")

    engine = (await box.look()).engine

    assert engine is not None
    assert (engine.generation, engine.missed_beats, engine.ready_s) == (1, 2, 12.0)
    assert not engine.is_llama_server
