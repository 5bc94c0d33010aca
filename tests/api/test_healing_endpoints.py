"""CONTRACT §4: what `session/reset`, `cache/clear` and `gpu/recover` make of sick runners, poison and a lost GPU."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.api import recovery
from tests.api.raw import ask, eventually
from tests.api.stubs import api_under_test

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.raw import RawAnswer
    from tests.api.stubs import ApiUnderTest
    from tests.engine.fake import FakeEngine

NO_ENGINE = 1
WHY = "tiny:latest made Ollama crash 2 times within an hour: at noon and at one."
FORBIDS = "a GPU in state lost forbids it"
LEAVES = "The GPU is out of reach. The daemon leaves with exit code 72, so that it is started anew."


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery that waits for a silent engine for tenths of its seconds."""
    monkeypatch.setattr(recovery, "UNLOAD_S", 0.4)
    monkeypatch.setattr(recovery, "LOOK_S", 0.3)


async def control(fake_engine: FakeEngine, modes: str) -> None:
    await asyncio.to_thread(fake_engine.control, modes)


async def n_looks(fake_engine: FakeEngine, count: int) -> bool:
    requests = await asyncio.to_thread(fake_engine.requests)
    return [request["target"] for request in requests].count("/api/ps") >= count


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "TINY"])
async def test_a_reset_to_a_quarantined_model_is_refused_with_the_reason_and_how_to_lift_it(
    name: str, tmp_path: Path
) -> None:
    async with api_under_test(NO_ENGINE, env={"ARASUL_STATE_DIR": str(tmp_path)}) as api:
        api.healing.quarantine.add("tiny:latest", WHY, crashes=2, at=1.7e9)
        answer = await ask(api.port, "POST", "/api/session/reset", b'{"model":"%b"}' % name.encode())

        assert (answer.status, answer.json()["code"]) == (409, "model_quarantined")
        assert answer.json()["error"] == f"{WHY} `arasul-supervisor quarantine lift {name}` lifts that."
        assert api.healing.asked.wishes == []  # nothing was touched


async def test_a_reset_to_a_quarantined_default_model_is_refused_too() -> None:
    async with api_under_test(NO_ENGINE) as api:
        api.healing.quarantine.add("qwen3:14b-q8", WHY, crashes=2, at=1.7e9)
        answer = await ask(api.port, "POST", "/api/session/reset")

        assert (answer.status, answer.json()["code"]) == (409, "model_quarantined")


async def test_a_model_whose_quarantine_was_lifted_is_loaded(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        api.healing.quarantine.add("tiny:latest", WHY, crashes=2, at=1.7e9)
        lifted = await ask(api.port, "DELETE", "/api/models/quarantine/tiny")
        answer = await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}')

        assert (lifted.status, answer.status) == (200, 200)


@pytest.mark.parametrize("wish", ["POST /api/session/reset", "POST /api/cache/clear"])
async def test_what_comes_back_after_a_crash_is_stopped_and_sick_runners_are_ended_before_it_unloads(
    engine_port: int, wish: str
) -> None:
    async with api_under_test(engine_port) as api:
        method, path = wish.split()
        await ask(api.port, method, path, b'{"model":"tiny"}' if "reset" in path else None)

        assert api.healing.asked.wishes == [("stop_restoring", wish), ("end_sick_runners", wish)]


async def test_a_recovery_stops_what_comes_back_after_a_crash(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/gpu/recover")

        assert api.healing.asked.wishes == [("stop_restoring", "POST /api/gpu/recover")]


async def test_a_reset_names_the_model_that_went_with_its_sick_runner(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        api.healing.asked.sick = ("sick:latest",)  # Ollama has dropped it from its list at once
        body = (await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}')).json()

        assert (body["unloaded_models"], body["model"]) == (["sick:latest"], "tiny")


async def test_a_reset_names_a_model_once_that_was_sick_and_still_listed(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        api.healing.asked.sick = ("tiny:latest",)
        body = (await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}')).json()

        assert body["unloaded_models"] == ["tiny:latest"]


async def test_the_load_of_a_reset_is_known_while_it_lasts(engine_port: int, fake_engine: FakeEngine) -> None:
    await control(fake_engine, "delay,path=/api/generate,s=0.5")
    async with api_under_test(engine_port) as api:
        reset = asyncio.create_task(ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}'))
        await eventually(lambda: api.healing.own_loads.current == "tiny")

        assert (await reset).status == 200
        assert api.healing.own_loads.current is None


async def ended_reset(api: ApiUnderTest) -> RawAnswer:
    """The answer to a session reset whose load was ended under way."""
    reset = asyncio.create_task(ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}'))
    await eventually(lambda: api.healing.own_loads.current is not None)
    api.healing.own_loads.end_all("its load did not move")
    return await reset


async def test_a_reset_whose_load_was_ended_says_why_and_where_more_is_said(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "delay,path=/api/generate,s=30")
    async with api_under_test(engine_port) as api:
        answer = await ended_reset(api)

        assert (answer.status, answer.json()["code"]) == (504, "engine_silent")
        assert answer.json()["error"] == (
            "The load of tiny was ended: its load did not move. GET /api/incidents says more."
        )


async def test_after_such_an_end_another_reset_can_be_asked_for(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "delay,path=/api/generate,s=30")
    async with api_under_test(engine_port) as api:
        await ended_reset(api)
        await control(fake_engine, "")
        again = await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}')

        assert (again.status, api.healing.own_loads.current) == (200, None)


async def test_health_warns_of_a_quarantined_default_model_with_the_reason(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "GET", "/api/models")
        api.healing.quarantine.add("qwen3:14b-q8", WHY, crashes=2, at=1.7e9)
        body = (await ask(api.port, "GET", "/health")).json()

        assert (body["checks"]["model"]["status"], body["checks"]["model"]["detail"]) == ("warn", WHY)


async def test_a_clear_names_the_model_that_went_with_its_sick_runner(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        api.healing.asked.sick = ("sick:latest",)  # Ollama has dropped it from its list at once
        body = (await ask(api.port, "POST", "/api/cache/clear")).json()

        assert (body["status"], body["unloaded_models"]) == ("success", ["sick:latest"])
        assert body["message"] == "LLM cache cleared: unloaded sick:latest"


async def test_a_clear_names_a_model_once_that_was_sick_and_still_listed(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        api.healing.asked.sick = ("tiny:latest",)
        body = (await ask(api.port, "POST", "/api/cache/clear")).json()

        assert body["unloaded_models"] == ["tiny:latest"]


async def test_a_recovery_leaves_at_once_where_that_brings_a_lost_gpu_back(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        api.healing.asked.leaves_with = LEAVES
        body = (await ask(api.port, "POST", "/api/gpu/recover")).json()
        loaded = await ask(api.port, "GET", "/api/models/loaded")

        assert (body["action"], body["can_retry"], body["status"]) == ("exit", False, "partial")
        assert (body["message"], body["unloaded_models"]) == (LEAVES, [])
        assert (api.engine.asked, loaded.json()["count"]) == ([], 1)  # nothing else was touched


@pytest.mark.usefixtures("impatient")
async def test_a_recovery_does_not_restart_what_the_gpu_would_not_let_start(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "freeze")
    async with api_under_test(engine_port) as api:
        api.healing.asked.refusal = FORBIDS
        body = (await ask(api.port, "POST", "/api/gpu/recover", limit_s=15)).json()

        assert api.engine.asked == ["kill_runners"]
        assert (body["status"], body["can_retry"], body["unloaded_models"]) == ("partial", False, [])
        assert body["message"].endswith(f"is not restarted: {FORBIDS}.")


async def test_after_such_a_refusal_an_engine_that_answers_can_be_asked_again(
    engine_port: int, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "UNLOAD_S", 0.4)
    await control(fake_engine, "freeze")
    async with api_under_test(engine_port) as api:
        api.healing.asked.refusal = FORBIDS
        asked = asyncio.create_task(ask(api.port, "POST", "/api/gpu/recover", limit_s=15))
        await eventually(lambda: n_looks(fake_engine, 2))  # the second is over in 1.5 s
        await control(fake_engine, "")
        body = (await asked).json()

        assert (body["can_retry"], api.engine.asked) == (True, ["kill_runners"])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("runners", "action"), [(2, "runner_killed"), (0, "unloaded")])
async def test_the_action_of_a_refused_restart_is_what_was_really_done(
    engine_port: int, fake_engine: FakeEngine, runners: int, action: str
) -> None:
    await control(fake_engine, "freeze")
    async with api_under_test(engine_port) as api:
        api.healing.asked.refusal, api.engine.runners_killed = FORBIDS, runners
        body = (await ask(api.port, "POST", "/api/gpu/recover", limit_s=15)).json()

        assert body["action"] == action
