"""Guards CONTRACT §4 507 `disk_full`: said with figures, where it can be before a byte came; the job waits for room."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.small_disks import small_disk_of
from tests.engine.store import blob_path, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.registry import Registry
    from tests.engine.small_disks import SmallDisk

# 64 MiB stay spare on the disk of the models, so that the rest is what a pull may take.
ROOM_MIB = 64 + 24
FIRST = random.Random("first").randbytes(4_000_000)
SECOND = random.Random("second").randbytes(8_000_000)
LARGE = random.Random("large").randbytes(1_000_000) * 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """The disk of the models, with room for 24 MiB."""
    with small_disk_of(tmp_path / "disk", mib=ROOM_MIB) as mounted:
        yield mounted


@pytest.fixture
def running(disk: SmallDisk, daemon: DaemonFactory, engine_binary: Path) -> Daemon:
    """A ready daemon whose models lie on that disk."""
    return daemon(engine=engine_binary, models=disk.folder / "models").wait_ready(limit_s=60)


def begin(running: Daemon, name: str) -> str:
    """Ask for a pull; the id of its job."""
    body = {"model": name, "insecure": True, "background": True}
    answer = running.post("/api/models/pull", body)
    assert answer.status == 202
    return str(answer.json()["id"])


def job(running: Daemon, job_id: str) -> Any:  # Any: an answer's JSON
    """The job now."""
    return running.get(f"/api/models/pulls/{job_id}").json()


def wait_state(running: Daemon, job_id: str, state: str) -> Any:  # Any: an answer's JSON
    """The job as soon as it is in that state."""
    running.wait_for(lambda: job(running, job_id)["state"] == state, what=f"the job is {state}", limit_s=30)
    return job(running, job_id)


def until_room_is_missed(running: Daemon, disk: SmallDisk, registry: Registry) -> str:
    """Pull two layers slowly, and fill the disk in the middle of the second; the id of the parked job."""
    name = registry.put_layers("new", [FIRST, SECOND])
    registry.switches.bytes_per_s = 4_000_000
    job_id = begin(running, name)
    running.wait_for(
        lambda: job(running, job_id)["completed"] > len(FIRST) + 1_000_000, what="half of it", limit_s=20
    )
    disk.fill()
    wait_state(running, job_id, "retrying")
    return job_id


def test_a_model_larger_than_the_room_is_refused_at_once_with_both_figures(
    running: Daemon, disk: SmallDisk, registry: Registry
) -> None:
    name = registry.put_bytes("large", LARGE)
    free_bytes = disk.free_bytes
    answer = running.post("/api/models/pull", {"model": name, "insecure": True, "stream": False})
    assert (answer.status, answer.json()["code"]) == (507, "disk_full")
    total_bytes = sum(map(len, registry.models[name.partition("/")[2]].blobs.values()))
    assert f"({total_bytes} bytes)" in answer.json()["error"]
    assert f"({free_bytes} bytes)" in answer.json()["error"]
    assert answer.took_s < 3


def test_a_model_larger_than_the_room_costs_no_byte_and_is_no_model(
    running: Daemon, registry: Registry
) -> None:
    body = {"model": registry.put_bytes("large", LARGE), "insecure": True}
    last = running.post("/api/models/pull", body).body.splitlines()[-1]
    assert b'"code":"disk_full"' in last
    assert registry.ranges() == []
    assert running.engine("GET", "/api/tags").json() == {"models": []}
    assert running.get("/api/models").json()["models"] == []


def test_the_same_job_is_done_after_the_disk_has_grown(
    running: Daemon, disk: SmallDisk, registry: Registry
) -> None:
    job_id = begin(running, registry.put_bytes("large", LARGE))
    wait_state(running, job_id, "retrying")
    disk.grow_to(192)
    assert wait_state(running, job_id, "done")["error"] is None


def test_a_disk_that_fills_up_in_the_middle_is_told_to_whoever_waits(
    running: Daemon, disk: SmallDisk, registry: Registry
) -> None:
    name = registry.put_layers("new", [FIRST, SECOND])
    registry.switches.bytes_per_s = 4_000_000
    filling = threading.Timer(1.5, disk.fill)  # the second layer takes 2 s
    filling.start()
    answer = running.post(
        "/api/models/pull", {"model": name, "insecure": True, "stream": False}, timeout_s=30
    )
    filling.join()
    assert (answer.status, answer.json()["code"]) == (507, "disk_full")


def test_a_disk_that_fills_up_in_the_middle_parks_the_job_until_the_other_writer_has_gone(
    running: Daemon, disk: SmallDisk, registry: Registry
) -> None:
    job_id = until_room_is_missed(running, disk, registry)
    parked, listed = job(running, job_id), running.engine("GET", "/api/tags").json()
    registry.switches.bytes_per_s = 0
    (disk.folder / "hog").unlink()
    wait_state(running, job_id, "done")
    blob = blob_path(disk.folder / "models", digest_of(SECOND))
    assert "bytes) are free at" in parked["error"]
    assert listed == {"models": []}
    assert digest_of(blob.read_bytes()) == digest_of(SECOND)
    # the layer that was finished; of the other one Ollama forgets the part in flight
    assert [entry.sent_bytes for entry in registry.ranges() if entry.digest == digest_of(FIRST)] == [
        len(FIRST)
    ]


@pytest.mark.long
def test_a_deleted_model_makes_room_for_a_parked_job(
    running: Daemon, disk: SmallDisk, registry: Registry
) -> None:
    old = registry.put_bytes("old", SECOND * 2)
    wait_state(running, begin(running, old), "done")
    job_id = begin(running, registry.put_bytes("new", FIRST * 4))
    wait_state(running, job_id, "retrying")
    assert running.request("DELETE", "/api/models/delete", body={"model": old}).status == 200
    wait_state(running, job_id, "done")
