"""When a runner at rest is asked for a token, and what counts as its answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arasul_supervisor.healing.diagnosis.limits import Limits
from arasul_supervisor.healing.diagnosis.verdicts import Kind
from arasul_supervisor.healing.history.history import EngineHistory, History
from arasul_supervisor.healing.history.runner_history import RunnerHistory
from arasul_supervisor.healing.history.stillness import Stillness
from arasul_supervisor.healing.looking.probing import Doubt, Probing, doubt_in, doubtful
from arasul_supervisor.healing.looking.witnesses import Answering, EngineLook, LogLook, Look, RunnerLook
from arasul_supervisor.supervision.process_looks import ProcessLook

if TYPE_CHECKING:
    import pytest

NOW = 5000.0
PROCESS = ProcessLook((7, 100), "S", 5, 0, 10, is_runnable=False)
AT_REST = RunnerHistory(
    RunnerLook(PROCESS, 4000, "sha256:a", Answering.READY, connections=frozenset()),
    first_mono=1.0,
    still=Stillness(PROCESS, 30.0),
    served_mono=2.0,
    idle_s=30.0,
)
ENGINE = EngineLook(1, None, 0, 60.0, is_llama_server=True)
DOUBT = Doubt(NOW - 10, "this box was suspended or paused")


def history(runner: RunnerHistory = AT_REST, **changes: Any) -> History:  # Any: fields of History
    look = Look(NOW, NOW, ENGINE)
    known = History(
        look=look, engine=EngineHistory(ENGINE, Stillness(None)), runners={runner.look.identity: runner}
    )
    return replace(known, **changes)


def test_nothing_is_doubted_without_a_cause() -> None:
    assert doubt_in(history()) is None


def test_a_pause_of_the_box_casts_doubt_for_five_minutes() -> None:
    assert doubt_in(history(gap_mono=NOW - 299)) is not None
    assert doubt_in(history(gap_mono=NOW - 301)) is None


def test_a_fault_of_the_gpu_casts_doubt() -> None:
    log = LogLook({"gpu_fault": (1, NOW - 5)})

    found = doubt_in(history(look=Look(NOW, NOW, ENGINE, log=log)))

    assert found == Doubt(NOW - 5, "the log told of gpu_fault")


def test_a_runner_at_rest_is_asked() -> None:
    assert doubtful(history(), DOUBT, ()) is AT_REST


def test_a_runner_is_asked_once_for_each_doubt() -> None:
    assert doubtful(history(), DOUBT, [((7, 100), NOW - 5)]) is None
    assert doubtful(history(), DOUBT, [((7, 100), NOW - 50)]) is AT_REST


def test_a_busy_runner_is_never_asked() -> None:
    busy = replace(AT_REST, look=replace(AT_REST.look, connections=frozenset({1})), idle_s=0.0)

    assert doubtful(history(busy), DOUBT, ()) is None


def test_a_loading_a_silent_and_an_orphaned_runner_are_not_asked() -> None:
    sick = (
        replace(AT_REST, served_mono=None),
        replace(AT_REST, unanswered=1),
        replace(AT_REST, look=replace(AT_REST.look, is_orphan=True)),
    )

    assert [doubtful(history(one), DOUBT, ()) for one in sick] == [None] * 3


class Questions:
    """Answers a probe as it is told."""

    def __init__(self, answer: bool | None) -> None:
        self.answer, self.asked = answer, 0

    async def probe(self, port: int, *, is_llama_server: bool, timeout_s: float) -> bool | None:
        self.asked += 1
        return self.answer


async def probed(answer: bool | None, *, is_allowed: bool = True) -> tuple[Probing, Questions]:
    """A probing that has come to its end."""
    questions = Questions(answer)
    probing = Probing(questions, Limits(), is_allowed=is_allowed)  # type: ignore[arg-type]  # a stand-in
    probing.take_turn(history(gap_mono=NOW - 10))
    await asyncio.sleep(0.01)
    await probing.close()
    return probing, questions


async def test_a_token_that_is_not_made_is_a_stuck_runner() -> None:
    probing, _ = await probed(False)

    (verdict,) = probing.verdicts()
    assert (verdict.kind, verdict.runner) == (Kind.RUNNER_STUCK, (7, 100))
    assert "because this box was suspended or paused" in verdict.evidence


async def test_a_token_that_is_made_or_cannot_be_is_no_fault() -> None:
    assert (await probed(True))[0].verdicts() == ()
    assert (await probed(None))[0].verdicts() == ()


async def test_nothing_is_asked_unless_it_is_allowed() -> None:
    assert (await probed(False, is_allowed=False))[1].asked == 0


async def test_a_runner_that_computes_again_waited_behind_a_request() -> None:
    probing, _ = await probed(False)

    probing.take_turn(history(replace(AT_REST, still=Stillness(PROCESS, 0.0)), gap_mono=NOW - 10))

    assert probing.verdicts() == ()


async def test_a_probe_under_way_is_ended_with_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = Questions(True)
    probing = Probing(questions, Limits(), is_allowed=True)  # type: ignore[arg-type]  # a stand-in
    hangs = asyncio.Event()

    async def probe(*_: object, **__: object) -> bool:
        return await hangs.wait()

    monkeypatch.setattr(questions, "probe", probe)
    probing.take_turn(history(gap_mono=NOW - 10))
    await asyncio.sleep(0)

    await probing.close()

    assert [task for task in asyncio.all_tasks() if task.get_name() == "probe"] == []
