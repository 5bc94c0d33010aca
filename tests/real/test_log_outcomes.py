"""Guards that what befalls a real Ollama is told once, at its line, in the right words, in public."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.engine import tiny_gguf
from tests.engine.driven_daemon import at_end as at_end
from tests.engine.driven_daemon import driven as driven
from tests.engine.faults_told import (
    CURED,
    ELSEWHERE,
    ERRORS,
    HARMLESS,
    ON_THEIR_OWN,
    PANICS,
    REFUSALS,
    WARNINGS,
)
from tests.engine.log_faults import FAULTS
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.driven_daemon import Drive, Driven
    from tests.engine.fault_ground import Ground
    from tests.engine.faults_told import Told

CUT_BYTES = 3_000  # what gguf_cut_in_header leaves of a model
ONE_LIFE = {"ARASUL_START_RETRIES": "1", "ARASUL_ON_GIVE_UP": "hold"}


def test_every_fault_is_looked_at_here_or_told_why_not() -> None:
    seen = [*REFUSALS, *ERRORS, *WARNINGS, *CURED, *HARMLESS, *PANICS, *ON_THEIR_OWN, *ELSEWHERE]

    assert sorted(seen) == sorted(FAULTS)


@pytest.mark.parametrize("fault", ERRORS)
def test_a_fault_is_told_once_at_its_line_in_the_right_words(driven: Drive, fault: str) -> None:
    running = driven_until_said(driven, fault)

    assert events(running) == [(ERRORS[fault].outcome, "error", 1)]
    assert_is_shown(running, ERRORS[fault], "fail")
    assert running.status() == "degraded"


def driven_until_said(driven: Drive, fault: str) -> Driven:
    """A daemon over an engine whose log holds the reason of the fault.

    llama-server writes its log in a thread of its own, and now and then exits before its last lines are out. Then no
    reader of the log can know more than Ollama's `exit status 1`.
    """
    for _ in range(3):
        running = driven(fault).drive()
        if running.has_said(ERRORS[fault].line) and not running.has_said('has terminated: exit status 1"'):
            break
    return running


@pytest.mark.parametrize("fault", WARNINGS)
def test_a_warning_is_shown_and_leaves_the_engine_healthy(driven: Drive, fault: str) -> None:
    running = driven(fault).drive()

    assert events(running) == [(WARNINGS[fault].outcome, "warning", 1)]
    assert_is_shown(running, WARNINGS[fault], "warn")
    assert running.status() == "healthy"


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refused_start_is_told_once_with_what_to_do(driven: Drive, fault: str) -> None:
    running = driven(fault, ONE_LIFE)
    running.daemon.wait_state("fatal")
    wait_until(running.told, limit_s=5, what="the outcome is told")
    last_exit = running.daemon.process()["last_exit"]

    assert events(running) == [(REFUSALS[fault].outcome, "error", 1)]
    assert_is_shown(running, REFUSALS[fault], "fail")
    assert (last_exit["code"], running.status()) == (1, "unhealthy")
    assert REFUSALS[fault].line in "".join(last_exit["log_tail"])


def test_health_names_who_holds_the_port(driven: Drive) -> None:
    running = driven("port_taken", ONE_LIFE)
    running.daemon.wait_state("fatal")
    holder = f"Port {running.ground.port} is held by pid {os.getpid()} "

    wait_until(lambda: running.reason().startswith(holder), limit_s=5, what=holder)


@pytest.mark.parametrize("fault", CURED)
def test_a_good_load_of_the_same_model_ends_a_failed_one(driven: Drive, fault: str) -> None:
    running = driven(fault).drive()
    assert events(running) == [(CURED[fault].outcome, "error", 1)]
    assert_is_shown(running, CURED[fault], "fail")

    load_well(running.ground)
    running.read_all()

    assert (running.errors()["status"], running.status()) == ("ok", "healthy")
    assert len(running.told()) == 1


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(["client_left_while_loading"], id="a load"),
        pytest.param(
            [fault for fault in HARMLESS if fault.startswith("pull_")],
            id="pulls",
            marks=pytest.mark.long,  # Ollama gives a stalled part up after half a minute
        ),
    ],
)
def test_what_ollama_gets_over_by_itself_is_noted_and_no_fault(driven: Drive, faults: list[str]) -> None:
    all_running = [driven(fault) for fault in faults]

    at_once([running.drive for running in all_running])

    seen = {running.fault: {line["outcome"] for line in notes(running)} for running in all_running}
    assert seen == {fault: {HARMLESS[fault]} for fault in faults}
    assert [events(running) for running in all_running] == [[]] * len(faults)
    assert {(running.status(), running.errors()["status"]) for running in all_running} == {("healthy", "ok")}


@pytest.mark.skipif(os.geteuid() != 0, reason="FULL DISK NOT TESTED: mounting needs root")
def test_a_full_disk_is_told_until_it_has_room_again(driven: Drive) -> None:
    running = driven("disk_full_in_pull").drive()
    running.daemon.wait_for(
        lambda: running.errors()["outcome"] == "disk_full", what="the full disk is told", limit_s=20
    )
    told, while_full = running.errors(), running.status()

    make_room(running.ground)
    running.daemon.wait_for(
        lambda: running.errors()["outcome"] != "disk_full", what="the room is seen", limit_s=20
    )

    assert f"The disk of the model store {running.ground.store} is full" in told["detail"]
    assert (told["status"], told["count"]) == ("fail", 1)
    assert [event["outcome"] for event in running.told()] == ["disk_full"]
    assert (while_full, running.status()) == ("degraded", "healthy")


@pytest.mark.parametrize("fault", PANICS)
def test_a_panic_is_told_of_the_engine_that_died_and_of_no_other(driven: Drive, fault: str) -> None:
    running = driven(fault).drive()
    last_exit = running.daemon.process()["last_exit"]
    lines = running.lines_of("panic")

    assert [event["message"] for event in running.told()] == [PANICS[fault]]
    assert events(running) == [("panic", "error", 1)]
    assert [line["generation"] for line in lines] == [1]
    assert lines[0]["text"] in running.daemon.engine_log_text().splitlines()
    assert (last_exit["code"], running.daemon.process()["generation"]) == (2, 2)
    assert (running.status(), running.errors()["outcome"]) == ("healthy", None)


def test_the_last_exit_holds_the_stack_of_a_panic(driven: Drive) -> None:
    running = driven("pull_joined_and_left").drive()

    wait_until(lambda: running.daemon.process()["last_exit"]["log_tail"], limit_s=5, what="the last lines")
    tail = running.daemon.process()["last_exit"]["log_tail"]

    assert [line for line in tail if line.startswith("panic: ")]
    assert [line for line in tail if "server.(*blobDownload)" in line]


def test_a_runner_that_a_forced_clear_ended_is_no_fault(driven: Drive) -> None:
    running = driven("runner_killed_answering")
    running.daemon.wait_ready(limit_s=60)
    with running.ground.answering():
        running.ground.signal_runner(signal.SIGSTOP)
        assert running.daemon.post("/api/cache/clear", {"force": True}).status == 200
    running.ground.generate()
    running.read_all()

    assert '"runners_killed"' in running.daemon.log_text()
    assert (events(running), running.errors()["status"], running.status()) == ([], "ok", "healthy")


def test_a_damaged_manifest_is_believed_when_it_is_met_again(driven: Drive) -> None:
    running = driven("manifest_damaged").drive()
    at_first = events(running)

    running.daemon.wait_for(lambda: bool(listed(running).told()), what="it is believed")
    running.read_all()

    assert at_first == []
    assert events(running) == [("manifest_damaged", "warning", 1)]
    assert (
        "The manifest of registry.ollama.ai/library/broken:latest is damaged." in running.errors()["detail"]
    )
    assert (running.errors()["status"], running.status()) == ("warn", "healthy")


def events(running: Driven) -> list[tuple[str, str, int]]:
    """Outcome, severity and generation of what the daemon's own log told."""
    return [(event["outcome"], event["severity"], event["generation"]) for event in running.told()]


def assert_is_shown(running: Driven, told: Told, status: str) -> None:
    """The point `errors` tells it, and the line stands in /api/logs as the engine wrote it."""
    point, lines = running.errors(), running.lines_of(told.outcome)
    written = running.daemon.engine_log_text().splitlines()
    telling = [line["text"] for line in lines if told.line in line["text"] and line["generation"] == 1]

    assert (point["status"], point["outcome"], point["count"]) == (status, told.outcome, told.count)
    assert told.sentence in point["detail"]
    assert telling
    assert set(telling) <= set(written)


def notes(running: Driven) -> list[dict[str, object]]:
    """The lines that say more than a healthy life does."""
    lines = running.daemon.get("/api/logs?lines=5000").json()["lines"]
    steps = {"listening", "running_on_cpu", "loading", "loaded", "downloading", None}
    return [line for line in lines if line["outcome"] not in steps]


def load_well(ground: Ground) -> None:
    """Load what could not be loaded, in each of the ways in which it was broken."""
    whole = ground.models(tiny_gguf.OTHER).read_bytes()
    for blob in (ground.store / "blobs").iterdir():
        blob.write_bytes(whole if blob.stat().st_size == CUT_BYTES else blob.read_bytes())
    for model in ("slow", "broken"):
        ground.generate(model, options={"num_ctx": 512})


def make_room(ground: Ground) -> None:
    """Remove what filled the disk."""
    for part in (ground.store / "blobs").glob("*-partial*"):
        part.unlink()


def listed(running: Driven) -> Driven:
    """The models were listed once more."""
    running.ground.request("GET", "/api/tags")
    return running


def at_once(calls: list[Callable[[], object]]) -> None:
    """All of them at the same time, until the last is done."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
