"""Guards CONTRACT §4 pulls: they outlive the daemon, whatever ended it, under their ids, in their order, and once."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.processes import pick_free_port, wait_until
from tests.engine.registry import start_registry
from tests.engine.small_disks import small_disk_of
from tests.engine.store import blob_path, digest_of, manifest_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.registry import Registry
    from tests.engine.small_disks import SmallDisk

    Start = Callable[..., Daemon]

BLOB = random.Random("journal").randbytes(4_000_000)
BYTES_PER_S = 3_000_000.0


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry, slow enough for a daemon to end in the middle of a pull."""
    running = start_registry(pick_free_port())
    running.switches.bytes_per_s = BYTES_PER_S
    yield running
    running.stop()


@pytest.fixture
def start(daemon: DaemonFactory, engine_binary: Path) -> Start:
    """`start(ARASUL_PULLS="1")`: a ready daemon with an empty store."""

    def ready(**env: str) -> Daemon:
        return daemon(engine=engine_binary, env=env).wait_ready(limit_s=60)

    return ready


def begin(running: Daemon, name: str) -> str:
    """Ask for a pull; the id of its job."""
    answer = running.post("/api/models/pull", {"model": name, "insecure": True, "background": True})
    assert answer.status == 202
    return str(answer.json()["id"])


def job(running: Daemon, job_id: str) -> Any:  # Any: an answer's JSON
    """The job now."""
    return running.get(f"/api/models/pulls/{job_id}").json()


def wait_bytes(running: Daemon, job_id: str) -> None:
    """Wait until the job has a third of its bytes."""
    running.wait_for(lambda: job(running, job_id)["completed"] > len(BLOB) // 4, what="bytes")


def wait_done(running: Daemon, job_id: str) -> Any:  # Any: an answer's JSON
    """The job at its end."""
    running.wait_for(lambda: job(running, job_id)["state"] == "done", what="done", limit_s=30)
    return job(running, job_id)


def end_and_start(running: Daemon, registry: Registry, number: int) -> None:
    """End the daemon by that signal and start it again; the line is fast from now on."""
    running.signal(number)
    running.wait_exit()
    registry.switches.bytes_per_s = 0
    running.start().wait_ready(limit_s=60)


def models(running: Daemon) -> list[str]:
    """What Ollama lists."""
    return sorted(model["name"] for model in running.engine("GET", "/api/tags").json()["models"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_pull_goes_on_under_its_id_after_a_restart(start: Start, registry: Registry, number: int) -> None:
    running, name = start(), registry.put_bytes("new", BLOB)
    job_id = begin(running, name)
    wait_bytes(running, job_id)
    end_and_start(running, registry, number)
    done = wait_done(running, job_id)
    assert (done["model"], done["attempts"]) == (name, 2)
    assert models(running) == [name]
    blob = blob_path(running.folder / "models", digest_of(BLOB))
    assert digest_of(blob.read_bytes()) == digest_of(BLOB)


def test_a_pull_interrupted_by_sigterm_fetches_no_byte_twice(start: Start, registry: Registry) -> None:
    running = start()
    job_id = begin(running, registry.put_bytes("new", BLOB))
    wait_bytes(running, job_id)
    end_and_start(running, registry, signal.SIGTERM)
    wait_done(running, job_id)
    first, second = (entry for entry in registry.ranges() if entry.digest == digest_of(BLOB))
    on_the_way_bytes = (first.sent_bytes or 0) - (second.first or 0)
    assert second.first and on_the_way_bytes < 256 * 1024  # sent, and not read when Ollama left


def test_the_last_line_before_a_stop_says_that_the_pull_goes_on(start: Start, registry: Registry) -> None:
    running, name = start(), registry.put_bytes("new", BLOB)
    stop = threading.Timer(1.0, running.signal, (signal.SIGTERM,))
    stop.start()
    answer = running.post("/api/models/pull", {"model": name, "insecure": True})
    stop.join()
    last = answer.body.splitlines()[-1]
    assert b'"code":"engine_down"' in last
    assert b"goes on at its next start" in last


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_queued_pulls_keep_their_order_over_a_restart(start: Start, registry: Registry, number: int) -> None:
    running = start(ARASUL_PULLS="1")
    names = [registry.put_bytes(model, BLOB[n:]) for n, model in enumerate(("c", "a", "b"))]
    job_ids = [begin(running, name) for name in names]
    wait_bytes(running, job_ids[0])
    end_and_start(running, registry, number)
    wait_done(running, job_ids[-1])
    pulled = [
        entry.path.split("/")[3]
        for entry in registry.served
        if entry.kind == "manifest" and entry.is_of_ollama
    ]
    assert pulled == ["c", "c", "a", "b"]
    assert [entry["id"] for entry in running.get("/api/models/pulls").json()["pulls"]] == job_ids[::-1]


def test_a_cancelled_pull_stays_cancelled_after_a_restart(start: Start, registry: Registry) -> None:
    running = start()
    job_id = begin(running, registry.put_bytes("new", BLOB))
    wait_bytes(running, job_id)
    assert running.request("DELETE", f"/api/models/pulls/{job_id}").status == 200
    end_and_start(running, registry, signal.SIGKILL)
    asked = len(registry.served)
    time.sleep(1.0)  # a pull that went on would have asked by now
    assert job(running, job_id)["state"] == "cancelled"
    assert len(registry.served) == asked


def test_a_finished_pull_stays_finished_after_a_restart(start: Start, registry: Registry) -> None:
    registry.switches.bytes_per_s = 0
    running = start()
    job_id = begin(running, registry.put_bytes("new", BLOB))
    done = wait_done(running, job_id)
    journal = running.state_dir / "pulls.json"
    ended = re.compile(r'"state": ?"done".*"finished_at": ?\d')
    running.wait_for(lambda: ended.search(journal.read_text()) is not None, what="its end is on disk")
    end_and_start(running, registry, signal.SIGKILL)
    kept = ("state", "attempts", "total", "completed", "started_at", "finished_at", "error")
    again = job(running, job_id)
    assert [again[key] for key in kept] == [done[key] for key in kept]


def test_an_alias_killed_between_copy_and_delete_ends_with_the_asked_name_alone(
    start: Start, registry: Registry
) -> None:
    registry.switches.bytes_per_s = 0
    reals = {f"known:{n}": registry.put_bytes(f"real{n}", BLOB[n:]) for n in range(6)}
    running = start(ARASUL_ALIASES=",".join(f"{alias}={real}" for alias, real in reals.items()))
    alias, job_id = kill_between_copy_and_delete(running, reals)
    running.start().wait_ready(limit_s=60)
    wait_done(running, job_id)
    assert alias in models(running)
    assert [name for name in models(running) if name.startswith(registry.address)] == []


def kill_between_copy_and_delete(running: Daemon, reals: Mapping[str, str]) -> tuple[str, str]:
    """SIGKILL the daemon when an alias is there and its real tag still is: which alias, and the id of its job.

    The delete follows within a millisecond and is the quicker one now and then: then the next alias is tried.
    """
    store = running.folder / "models"
    for alias, real in reals.items():
        job_id = begin(running, alias)
        kill_as_soon_as(manifest_path(store, alias), after=manifest_path(store, real), running=running)
        if manifest_path(store, real).exists():
            return alias, job_id
        running.start().wait_ready(limit_s=60)
    pytest.fail("the delete was always quicker than the SIGKILL")


def kill_as_soon_as(file: Path, *, after: Path, running: Daemon) -> None:
    """SIGKILL the daemon once the engine has made that file for it; from `after` on it lives in short slices."""
    wait_until(lambda: after.exists() or file.exists(), limit_s=20, what=f"{after} is there")
    while True:
        running.signal(signal.SIGSTOP)
        time.sleep(0.02)  # the engine does what it was asked in the last slice
        if file.exists():
            break
        running.signal(signal.SIGCONT)
        time.sleep(0.0003)
    running.signal(signal.SIGKILL)
    running.wait_exit()


@pytest.fixture
def state_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk for the state of a daemon."""
    with small_disk_of(tmp_path / "state-disk", mib=2) as disk:
        yield disk


def test_a_full_disk_of_the_state_keeps_no_pull_away(
    state_disk: SmallDisk, start: Start, registry: Registry
) -> None:
    running, name = start(ARASUL_STATE_DIR=str(state_disk.folder)), registry.put_bytes("new", BLOB)
    state_disk.fill()
    answer = running.post("/api/models/pull", {"model": name, "insecure": True})
    assert answer.body.splitlines()[-1] == b'{"status":"success"}'
    assert "pulls would not outlive the daemon" in running.log_text()


def test_a_journal_that_cannot_be_written_keeps_no_pull_away(start: Start, registry: Registry) -> None:
    running, name = start(), registry.put_bytes("new", BLOB)
    journal = running.state_dir / "pulls.json"
    journal.unlink()
    journal.mkdir()
    answer = running.post("/api/models/pull", {"model": name, "insecure": True})
    assert answer.body.splitlines()[-1] == b'{"status":"success"}'
    assert "pulls would not outlive the daemon" in running.log_text()
