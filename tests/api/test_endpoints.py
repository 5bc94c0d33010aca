"""CONTRACT §4, the table: each endpoint over an engine that is well, stopped, frozen, or answers garbage."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.api import process as process_api
from arasul_supervisor.supervision.snapshot import State, Wanted
from tests.api.raw import ask, connection, eventually
from tests.api.stubs import UP, api_under_test

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.fake import FakeEngine

NO_ENGINE = 1
PULL = b'{"model":"fresh:latest"}'
FROM_MEMORY = (
    "/health",
    "/livez",
    "/api/stats",
    "/api/info",
    "/api/process",
    "/api/logs",
    "/api/models/pulls",
    "/api/incidents",
    "/api/models/quarantine",
)
NEEDS_ENGINE = (
    ("GET", "/api/models", None),
    ("GET", "/api/models/loaded", None),
    ("POST", "/api/cache/clear", b"{}"),
    ("POST", "/api/session/reset", b"{}"),
    ("POST", "/api/gpu/recover", None),
    ("POST", "/api/models/pull", PULL),
    ("DELETE", "/api/models/delete?model=x", None),
    ("GET", "/readyz", None),
    ("POST", "/api/generate", b'{"keep_alive":0}'),
)


async def control(fake_engine: FakeEngine, modes: str) -> None:
    await asyncio.to_thread(fake_engine.control, modes)


async def asked_paths(fake_engine: FakeEngine) -> list[str]:
    return [request["target"] for request in await asyncio.to_thread(fake_engine.requests)]


async def was_asked(fake_engine: FakeEngine, path: str) -> bool:
    return path in await asked_paths(fake_engine)


@pytest.mark.parametrize("state", [s for s in State if s is not State.RUNNING])
@pytest.mark.parametrize(("method", "path", "body"), NEEDS_ENGINE)
async def test_without_an_engine_the_answer_is_503_at_once(
    method: str, path: str, body: bytes | None, state: State
) -> None:
    async with api_under_test(NO_ENGINE) as api:
        api.engine.become(state=state)
        answer = await ask(api.port, method, path, body, limit_s=0.5)

        assert (answer.status, answer.json()["code"]) == (503, "engine_down")
        assert int(answer.header("Retry-After") or 0) >= 1


async def test_what_is_known_from_memory_is_told_without_asking_the_engine(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    silent = replace(UP, missed_beats=5)
    async with api_under_test(engine_port, snapshot=silent) as api:
        answers = [await ask(api.port, "GET", path) for path in FROM_MEMORY]

        assert [answer.status for answer in answers] == [503, *[200] * 8]
        assert await asked_paths(fake_engine) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "bound_s"),
    [
        ("GET", "/api/models", None, 3.0),
        ("GET", "/api/models/loaded", None, 3.0),
        ("POST", "/api/cache/clear", b"{}", 5.0),
        ("POST", "/api/cache/clear", b'{"force":true}', 5.0),
        ("POST", "/api/generate", b'{"keep_alive":0}', 5.0),
        ("DELETE", "/api/models/delete", b'{"model":"tiny"}', 15.0),
        ("POST", "/api/session/reset", b'{"model":"tiny"}', 15.0),
    ],
)
async def test_a_frozen_engine_is_told_within_the_bound(
    engine_port: int, fake_engine: FakeEngine, method: str, path: str, body: bytes | None, bound_s: float
) -> None:
    await control(fake_engine, "freeze")
    async with api_under_test(engine_port) as api:
        began = time.monotonic()
        answer = await ask(api.port, method, path, body, limit_s=30)

        assert (answer.status, answer.json()["code"]) == (504, "engine_silent")
        assert time.monotonic() - began < bound_s + 0.5


@pytest.mark.parametrize(
    "fault", ["html", "broken_json", "wrong_json", "empty", "close", "close_mid", "garbage"]
)
@pytest.mark.parametrize("path", ["/api/models", "/api/models/loaded"])
async def test_an_engine_that_answers_nonsense_is_a_gateway_error(
    engine_port: int, fake_engine: FakeEngine, fault: str, path: str
) -> None:
    await control(fake_engine, fault)
    async with api_under_test(engine_port) as api:
        answer = await ask(api.port, "GET", path)

        assert answer.status in (502, 503, 504)
        assert isinstance(answer.json()["error"], str)
        assert [event for event, _ in api.log.events] == []


async def test_health_is_healthy_and_names_the_installed_models(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "GET", "/api/models")
        answer = await ask(api.port, "GET", "/health")

        body = answer.json()
        assert (answer.status, body["status"]) == (200, "healthy")
        assert set(body["checks"]) == {"api", "gpu", "model", "errors"}
        assert (body["models"], body["models_count"]) == (["tiny:latest"], 1)
        assert abs(body["timestamp"] - time.time()) < 60


async def test_health_changes_the_moment_the_engine_does(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        before = (await ask(api.port, "GET", "/health")).status
        api.engine.become(state=State.STOPPED, wanted=Wanted.DOWN)
        after = await ask(api.port, "GET", "/health")

        assert before == 200
        assert (after.status, after.json()["status"]) == (503, "unhealthy")
        assert "operator" in after.json()["reason"]


async def test_many_who_ask_for_the_models_make_one_call(engine_port: int, fake_engine: FakeEngine) -> None:
    silent = replace(UP, missed_beats=5)  # keeps the background quiet
    async with api_under_test(engine_port, snapshot=silent) as api:
        answers = await asyncio.gather(*(ask(api.port, "GET", "/api/models") for _ in range(20)))

        assert {answer.json()["count"] for answer in answers} == {1}
        assert (await asked_paths(fake_engine)).count("/api/tags") == 1


async def test_a_clear_of_nothing_says_so_with_both_phrases(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        answer = await ask(api.port, "POST", "/api/cache/clear")

        body = answer.json()
        assert (answer.status, body["status"]) == (200, "success")
        assert "cache cleared" in body["message"].lower()
        assert "already clear" in body["message"].lower()


async def test_a_clear_names_what_it_unloaded(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        answer = await ask(api.port, "POST", "/api/cache/clear", b"{}")

        assert answer.json()["unloaded_models"] == ["tiny:latest"]
        assert answer.json()["failed_models"] == []


async def test_a_session_reset_loads_the_model_and_says_which(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        answer = await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny:latest"}')
        loaded = await ask(api.port, "GET", "/api/models/loaded")

        assert (answer.status, answer.json()["message"]) == (200, "Session reset, reloaded tiny:latest")
        assert loaded.json()["count"] == 1


async def test_a_session_reset_of_a_missing_model_tells_how_to_pull_it(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        answer = await ask(api.port, "POST", "/api/session/reset")

        assert (answer.status, answer.json()["code"]) == (404, "model_not_installed")
        assert "arasul-supervisor pull qwen3:14b-q8" in answer.json()["error"]


async def test_a_second_session_reset_is_told_that_one_is_under_way(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "delay,path=/api/generate,s=1")
    async with api_under_test(engine_port) as api:
        first = asyncio.create_task(ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}'))
        await eventually(lambda: was_asked(fake_engine, "/api/generate"))
        second = await ask(api.port, "POST", "/api/session/reset", b'{"model":"tiny"}')

        assert (second.status, second.json()["code"]) == (409, "already_running")
        assert (await first).status == 200


async def test_a_recovery_unloads_where_that_is_enough(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        nothing = await ask(api.port, "POST", "/api/gpu/recover")
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        unloaded = await ask(api.port, "POST", "/api/gpu/recover", b"")

        assert (nothing.json()["action"], nothing.json()["can_retry"]) == ("none", True)
        assert (unloaded.json()["action"], unloaded.json()["unloaded_models"]) == (
            "unloaded",
            ["tiny:latest"],
        )
        assert api.engine.asked == []


async def test_a_recovery_of_a_frozen_engine_kills_runners_then_restarts_it(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "freeze")
    async with api_under_test(engine_port) as api:
        recovery = asyncio.create_task(ask(api.port, "POST", "/api/gpu/recover", limit_s=15))
        await eventually(lambda: "restart" in api.engine.asked)
        await control(fake_engine, "")
        api.engine.become(generation=2)
        answer = await recovery

        assert api.engine.asked == ["kill_runners", "restart"]
        assert (answer.json()["action"], answer.json()["can_retry"]) == ("engine_restarting", True)


async def test_a_pull_streams_the_lines_of_ollama(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        answer = await ask(api.port, "POST", "/api/models/pull", PULL)

        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert answer.header("Content-Type") == "application/x-ndjson"
        assert lines[-1] == {"status": "success"}
        assert all(isinstance(line["status"], str) for line in lines)
        assert any("completed" in line for line in lines)


async def test_a_failed_pull_ends_with_an_error_that_is_a_string(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "pull,fail=pull model manifest: file does not exist")
    async with api_under_test(engine_port) as api:
        stream = await ask(api.port, "POST", "/api/models/pull", PULL)
        whole = await ask(api.port, "POST", "/api/models/pull", b'{"model":"fresh","stream":false}')

        assert isinstance(json.loads(stream.body.splitlines()[-1])["error"], str)
        assert (whole.status, whole.json()["code"]) == (404, "model_not_found")


async def test_a_pull_in_the_background_goes_on_and_can_be_cancelled(
    engine_port: int, fake_engine: FakeEngine
) -> None:
    await control(fake_engine, "pull,silent_after=2")
    async with api_under_test(engine_port) as api:
        begun = await ask(api.port, "POST", "/api/models/pull", b'{"model":"fresh","background":true}')
        where = f"/api/models/pulls/{begun.json()['id']}"
        busy = await ask(api.port, "DELETE", "/api/models/delete", b'{"model":"fresh"}')
        cancelled = await ask(api.port, "DELETE", where)
        seen = await ask(api.port, "GET", where)

        assert begun.status == 202
        assert (busy.status, busy.json()["code"]) == (409, "model_busy")
        assert busy.json()["error"].endswith(f"DELETE {where}.")
        assert cancelled.json()["state"] == seen.json()["state"] == "cancelled"


@pytest.mark.parametrize("stream", [b"true", b"false"])
@pytest.mark.parametrize(("wish", "state"), [(b"true", "cancelled"), (b"false", "running")])
async def test_a_pull_ends_with_its_client_only_on_request(
    engine_port: int, fake_engine: FakeEngine, wish: bytes, state: str, stream: bytes
) -> None:
    await control(fake_engine, "pull,silent_after=2")
    body = b'{"model":"fresh","cancel_on_disconnect":' + wish + b',"stream":' + stream + b"}"
    async with api_under_test(engine_port) as api:
        async with connection(api.port) as client:
            await client.send(
                b"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            await client.send(body)
            await eventually(lambda: was_asked(fake_engine, "/api/pull"))
        (job,) = api.pulls.jobs()

        await eventually(lambda: job.view().state == state)


async def test_a_purge_removes_the_parts_of_that_pull_and_nothing_else(
    engine_port: int, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    await control(fake_engine, "pull,silent_after=3")
    async with api_under_test(engine_port, store=tmp_path) as api:
        begun = await ask(api.port, "POST", "/api/models/pull", b'{"model":"fresh","background":true}')
        job = api.pulls.job(begun.json()["id"])
        await eventually(lambda: bool(job.progress.digests))
        mine = job.progress.digests[0].replace(":", "-")
        names = [f"{mine}-partial", f"{mine}-partial-0", mine, f"sha256-{'0' * 64}-partial"]
        await asyncio.to_thread(_write_blobs, tmp_path / "blobs", names)
        answer = await ask(api.port, "DELETE", f"/api/models/pulls/{job.id}?purge=true")

        left = await asyncio.to_thread(lambda: {path.name for path in (tmp_path / "blobs").iterdir()})
        assert answer.json()["purged_bytes"] > 0
        assert left == {f"sha256-{'0' * 64}-partial"}  # no manifest names what the pull had finished either


def _write_blobs(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x" * 5000)


async def test_without_a_store_the_bytes_on_disk_are_unknown_and_nothing_is_said_to_be_broken(
    engine_port: int,
) -> None:
    async with api_under_test(engine_port) as api:
        answer = (await ask(api.port, "GET", "/api/models")).json()

        assert (answer["models"][0]["disk_bytes"], answer["broken"]) == (None, [])


async def test_a_removed_model_is_gone_and_its_size_told(engine_port: int) -> None:
    async with api_under_test(engine_port) as api:
        await ask(api.port, "POST", "/api/generate", b'{"model":"tiny:latest"}')
        answer = await ask(api.port, "DELETE", "/api/models/delete?name=tiny")
        left = await ask(api.port, "GET", "/api/models")
        again = await ask(api.port, "DELETE", "/api/models/delete", b'{"name":"tiny"}')

        assert (answer.status, answer.json()["freed_bytes"]) == (200, 450784)
        assert left.json()["count"] == 0
        assert (again.status, again.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("command", ["start", "stop", "restart"])
async def test_a_command_that_is_not_waited_for_is_202(command: str) -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "POST", f"/api/process/{command}?wait=false")

        assert (answer.status, answer.json()["state"]) == (202, "running")
        assert api.engine.asked == [command]


async def test_a_start_of_what_runs_is_200() -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "POST", "/api/process/start", b"")

        assert (answer.status, answer.json()["state"]) == (200, "running")


async def test_a_stop_that_does_not_settle_is_504_with_the_state_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_api, "MARGIN_S", 0.1)
    async with api_under_test(NO_ENGINE, env={"ARASUL_STOP_TIMEOUT": "1"}) as api:
        api.engine.become(state=State.STOPPING)
        answer = await ask(api.port, "POST", "/api/process/stop")

        assert answer.status == 504
        assert (answer.json()["state"], answer.json()["wanted"]) == ("stopping", "up")


async def test_a_start_that_fails_is_no_success() -> None:
    async with api_under_test(NO_ENGINE) as api:
        api.engine.become(state=State.FATAL, decision="it crashed five times in a row")
        answer = await ask(api.port, "POST", "/api/process/start")

        assert (answer.status, answer.json()["state"]) == (503, "fatal")
        assert "five times" in answer.json()["error"]


async def test_info_names_what_runs_here() -> None:
    async with api_under_test(NO_ENGINE) as api:
        body = (await ask(api.port, "GET", "/api/info")).json()

        assert body["service"] == "llm-service"
        assert body["ollama_version"] == UP.engine_version
        assert body["ollama_url"] == "http://127.0.0.1:1"
        assert body["settings"]["LLM_MODEL"] == {"value": "qwen3:14b-q8", "origin": "default"}


@pytest.mark.parametrize(
    ("outcome", "hint"), [("load_fail", "did you mean load_failed?"), ("xyz", "it is one of listening, ")]
)
async def test_an_outcome_that_no_log_can_have_is_refused_with_one_that_it_can(
    outcome: str, hint: str
) -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "GET", f"/api/logs?outcome={outcome}")

        assert (answer.status, answer.json()["field"]) == (400, "outcome")
        assert hint in answer.json()["error"]


async def test_logs_are_asked_for_as_the_query_says() -> None:
    async with api_under_test(NO_ENGINE) as api:
        await ask(api.port, "GET", "/api/logs?lines=7&level=error&outcome=panic&generation=2&since=41")

        assert api.engine_log.asked == [
            {"count": 7, "level": "error", "outcome": "panic", "generation": 2, "since": 41}
        ]
