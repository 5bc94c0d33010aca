"""Guards "gpu/recover, cache/clear, session/reset use the same ladder, within their bounds"."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.diagnosis.diagnosis import diagnose
from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Certainty, Cure, Kind, Verdict
from arasul_supervisor.healing.looking.witnesses import Answering, GpuLook
from arasul_supervisor.healing.treatment import asked_cures
from arasul_supervisor.healing.treatment.asked_cures import AskedCures
from arasul_supervisor.supervision.snapshot import Snapshot, State
from tests.api.raw import eventually
from tests.unit.healing_desk import Desk
from tests.unit.healing_looks import BUSY, ENGINE, LISTED, PROCESS, RUNNER, after, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from arasul_supervisor.healing.history.history import History
    from arasul_supervisor.healing.looking.witnesses import RunnerLook
    from arasul_supervisor.supervision.process_looks import Identity

WISH = "POST /api/gpu/recover"
LOST = Verdict(Kind.GPU_UNREACHABLE, "The GPU worked and is out of reach for 12 s.", since_mono=0.0)
BROKEN = replace(LOST, kind=Kind.GPU_BROKEN)
FORBIDS = "a GPU in state lost forbids it"
STOPPED = replace(RUNNER, process=replace(PROCESS, state="T"), answering=Answering.SILENT)


def watched(runner: RunnerLook, *, seconds: int = 200) -> History:
    """A runner that has looked like this all the time."""
    return after(*(seen(float(now), runner, models=LISTED) for now in range(0, seconds, 2)))


class KnownSick:
    """What the healer knows."""

    def __init__(self) -> None:
        self.history = watched(RUNNER)
        self.forbidden: Mapping[Cure, str] = {}
        self.verdicts: tuple[Verdict, ...] = ()
        self.is_acting = True

    def gpu_verdicts(self) -> tuple[Verdict, ...]:
        return self.verdicts


class Hands:
    """The engine, and who is told of its end."""

    def __init__(self) -> None:
        self.snapshot = Snapshot(state=State.RUNNING, generation=1)
        self.done: list[object] = []
        self.survivors: frozenset[Identity] = frozenset()
        self.refusal: OSError | None = None
        self.n_runners = 2

    async def end_runners(self, identities: Collection[Identity]) -> frozenset[Identity]:
        self.done.append(sorted(identities))
        if self.refusal is not None:
            raise self.refusal
        return frozenset(identities) - self.survivors

    async def kill_runners(self) -> int:
        self.done.append("kill")
        return self.n_runners

    def ask_cure_restart(self, reason: str, *, generation: int | None = None) -> None:
        self.done.append((reason, generation))

    def end_loads(self, why: str) -> None:
        self.done.append(why)

    def expect_restart(self, generation: int, *, restored_in: str | None) -> None:
        self.done.append((generation, restored_in))


class Wishes(Desk):
    """Somebody who may ask, and all that stands behind."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.hands = KnownSick(), Hands()
        self.left: list[int] = []
        self.cures = AskedCures(
            self.hands,  # type: ignore[arg-type]  # a stand-in
            self.known,  # type: ignore[arg-type]  # a stand-in
            incidents=self.book,
            ends=self.hands,  # type: ignore[arg-type]  # a stand-in
            limits=Limits(),
            leave=self.left.append,
            cancel_loads=self.hands.end_loads,
            tail=lambda generation: (f"a line of {generation}",),
            log=self.log,
        )


@pytest.fixture
async def wishes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wishes]:
    monkeypatch.setattr(asked_cures, "ANSWER_S", 0.2)
    opened = Wishes()
    yield opened
    await opened.book.settle()


@pytest.mark.parametrize("runner", [RUNNER, replace(BUSY, slots=None)], ids=["rests", "works"])
async def test_a_runner_that_is_well_is_not_ended(wishes: Wishes, runner: RunnerLook) -> None:
    wishes.known.history = watched(runner, seconds=20)

    assert await wishes.cures.end_sick_runners(WISH) == ()
    assert (wishes.hands.done, wishes.incidents) == ([], [])


async def test_a_runner_that_is_only_suspected_is_not_ended(wishes: Wishes) -> None:
    silent = replace(BUSY, slots=None)  # ≤ 0.29, on a GPU that does not tell its load
    gpu = GpuLook("ok", True, True, None, "GPU 0 answers.")
    looks = (
        seen(float(now), silent, engine=replace(ENGINE, is_llama_server=False)) for now in range(0, 400, 2)
    )
    wishes.known.history = after(*(replace(look, gpu=gpu) for look in looks))
    (verdict,) = diagnose(wishes.known.history, Limits())

    await wishes.cures.end_sick_runners(WISH)

    assert (verdict.certainty, wishes.hands.done) == (Certainty.SUSPECTED, [])


@pytest.mark.parametrize("runner", [BUSY, STOPPED], ids=["stuck", "frozen"])
async def test_a_runner_that_is_certainly_sick_is_ended(wishes: Wishes, runner: RunnerLook) -> None:
    wishes.known.history = watched(runner)

    assert await wishes.cures.end_sick_runners(WISH) == ("a:latest",)
    assert wishes.hands.done == [[PROCESS.identity]]


async def test_such_an_end_is_noted_with_its_evidence(wishes: Wishes) -> None:
    wishes.known.history = watched(BUSY)
    await wishes.cures.end_sick_runners(WISH)

    assert wishes.results() == [("asked_for", "noted")]
    assert wishes.only.what == "POST /api/gpu/recover was asked for."
    assert wishes.only.evidence.startswith("The runner 7 of a:latest works on a request")
    assert wishes.only.detail == "Ended 1 of 1 runners: a:latest."


async def test_such_an_end_is_noted_with_the_log_and_the_witnesses(wishes: Wishes) -> None:
    wishes.known.history = watched(BUSY)
    await wishes.cures.end_sick_runners(WISH)

    assert wishes.only.log_tail == ("a line of 1",)
    assert (wishes.only.witnesses_before["runners"], wishes.only.generation) == (1, 1)


async def test_who_does_not_act_ends_no_runner_that_nobody_named(wishes: Wishes) -> None:
    wishes.known.history, wishes.known.is_acting = watched(BUSY), False

    assert await wishes.cures.end_sick_runners(WISH) == ()
    assert (wishes.hands.done, wishes.incidents) == ([], [])


async def test_a_wish_ends_the_load_of_what_a_crash_took_and_says_whose_it_was(wishes: Wishes) -> None:
    wishes.cures.stop_restoring(WISH)

    assert wishes.hands.done == ["POST /api/gpu/recover was asked for"]


async def test_a_runner_with_two_illnesses_is_ended_once(wishes: Wishes) -> None:
    wishes.known.history = watched(STOPPED)  # frozen, and listed past its time
    await wishes.cures.end_sick_runners(WISH)

    assert wishes.only.detail == "Ended 1 of 1 runners: a:latest."


async def test_a_runner_that_nothing_ends_is_not_among_those_that_went(wishes: Wishes) -> None:
    wishes.known.history = watched(BUSY)
    wishes.hands.survivors = frozenset({PROCESS.identity})

    assert await wishes.cures.end_sick_runners(WISH) == ()
    assert wishes.only.detail == "Ended 0 of 1 runners: a:latest."


async def test_without_a_descriptor_the_wish_goes_on_without_that_end(wishes: Wishes) -> None:
    wishes.known.history = watched(BUSY)
    wishes.hands.refusal = OSError(24, "Too many open files")

    assert await wishes.cures.end_sick_runners(WISH) == ()
    assert len(wishes.told("runners_not_ended")) == 1


async def test_the_end_of_all_runners_is_noted_with_their_number(wishes: Wishes) -> None:
    assert await wishes.cures.end_all_runners(WISH, "Unloading did not help.") == 2

    assert (wishes.only.evidence, wishes.only.detail) == (
        "Unloading did not help.",
        "Ended 2 model runners.",
    )


async def test_where_there_was_no_runner_nothing_is_noted(wishes: Wishes) -> None:
    wishes.hands.n_runners = 0
    await wishes.cures.end_all_runners(WISH, "Unloading did not help.")

    assert wishes.incidents == []


async def test_a_restart_brings_nothing_back_and_is_noted(wishes: Wishes) -> None:
    assert wishes.cures.ask_restart(WISH, "Ending its runners did not help.") is None

    assert wishes.hands.done == [(1, None), ("restarted for POST /api/gpu/recover", 1)]
    assert (wishes.only.action, wishes.only.detail) == ("engine_restarting", "Ollama is started anew.")


async def test_a_restart_that_the_gpu_forbids_is_refused_with_the_reason(wishes: Wishes) -> None:
    wishes.known.forbidden = {Cure.RESTART_ENGINE: f"engine_restarting is not tried: {FORBIDS}"}

    assert wishes.cures.ask_restart(WISH, "Ending its runners did not help.") == FORBIDS
    assert wishes.hands.done == []
    assert (wishes.only.action, wishes.only.detail) == ("none", f"Ollama is not started anew: {FORBIDS}.")


async def test_a_lost_gpu_is_left_for_after_the_answer(wishes: Wishes) -> None:
    wishes.known.verdicts = (LOST,)

    told = wishes.cures.leave_for_the_gpu(WISH)
    await asyncio.sleep(0.01)
    before = list(wishes.left)
    await eventually(lambda: bool(wishes.left))

    assert told is not None and "exit code 72" in told
    assert (before, wishes.left) == ([], [72])
    assert (wishes.only.action, wishes.only.evidence) == ("exit", LOST.evidence)


@pytest.mark.parametrize(
    ("verdicts", "forbidden"),
    [
        pytest.param((), {}, id="the GPU is well"),
        pytest.param((BROKEN,), {}, id="leaving does not mend it"),
        pytest.param((LOST,), {Cure.EXIT: "nobody starts it again"}, id="nobody starts us anew"),
    ],
)
async def test_where_leaving_does_not_help_the_daemon_stays(
    wishes: Wishes, verdicts: tuple[Verdict, ...], forbidden: Mapping[Cure, str]
) -> None:
    wishes.known.verdicts, wishes.known.forbidden = verdicts, forbidden

    assert wishes.cures.leave_for_the_gpu(WISH) is None
    await asyncio.sleep(0.3)
    assert (wishes.left, wishes.incidents) == ([], [])
