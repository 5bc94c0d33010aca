"""Faults of pulls, and of a disk that is full."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.engine import tiny_gguf
from tests.engine.fault_ground import Fault
from tests.engine.registry import start_registry
from tests.engine.store import digest_of, install_model

if TYPE_CHECKING:
    from tests.engine.fault_ground import Ground, Start

DISK_BYTES = 120 * 2**20
LARGE_BYTES = 250 * 2**20  # three parts


def pull_with(ground: Ground, **switches: Any) -> None:  # Any: whatever the registry's switches are
    """Pull a tiny model from a registry that fails in that way; a pull that hangs is left after 45 s."""
    name = ground.registry.put("other", ground.models(tiny_gguf.OTHER))
    for switch, value in switches.items():
        setattr(ground.registry.switches, switch, value)
    ground.pull(name, timeout_s=45)


def pull_unknown(ground: Ground) -> None:
    """The registry has no such model."""
    ground.pull(ground.registry.name("nosuch"))


def pull_from_nowhere(ground: Ground) -> None:
    """Nobody listens there, or the name does not exist."""
    ground.pull("127.0.0.1:9/library/tiny:latest")
    ground.pull("nosuchhost.invalid/library/tiny:latest")


def pull_twice_and_leave(ground: Ground) -> None:
    """A second client joins a pull that waits for the registry, and leaves: Ollama 0.34.4 dies of it."""
    ground.registry.switches.silent_on = frozenset({"HEAD"})
    body = {"model": ground.registry.put("other", ground.models(tiny_gguf.OTHER)), "insecure": True}
    with ground.meanwhile("POST", "/api/pull", body, timeout_s=10):
        time.sleep(0.5)
        ground.abandon("/api/pull", body, after_s=0.5)


def pull_while_registry_restarts(ground: Ground) -> None:
    """The registry dies in the middle of a part and is back after three seconds."""
    second = None
    name = ground.registry.put("other", ground.models(tiny_gguf.OTHER))
    ground.registry.switches.bytes_per_s = 200_000  # 451 kB take 2 s
    port = int(ground.registry.address.rpartition(":")[2])
    with ground.meanwhile("POST", "/api/pull", {"model": name, "insecure": True}):
        time.sleep(1)
        ground.registry.stop()
        time.sleep(3)
        second = start_registry(port)
        second.models.update(ground.registry.models)
    second.stop()


def pull_from_dead_registry(ground: Ground) -> None:
    """The registry dies in the middle of a part and stays away; the pull is left after 45 s."""
    name = ground.registry.put("other", ground.models(tiny_gguf.OTHER))
    ground.registry.switches.bytes_per_s = 200_000  # 451 kB take 2 s
    threading.Timer(1, ground.registry.stop).start()
    ground.pull(name, timeout_s=100)


def pull_damaged_part(ground: Ground) -> None:
    """What an interrupted pull left is empty."""
    name = ground.registry.put("other", ground.models(tiny_gguf.OTHER))
    digest = digest_of(ground.models(tiny_gguf.OTHER).read_bytes())
    (ground.store / "blobs" / f"{digest.replace(':', '-')}-partial-0").write_bytes(b"")
    ground.pull(name)


def small_disk(start: Start) -> None:
    """The store is a file system of 120 MiB of its own, with the tiny model on it."""
    model = next(blob for blob in start.store.joinpath("blobs").iterdir() if blob.stat().st_size > 100_000)
    content = model.read_bytes()
    start.store = start.folder / "small"
    start.store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", start.store], check=True)
    start.at_end.callback(subprocess.check_call, ["umount", "-l", start.store])
    file = start.folder / "tiny.gguf"
    file.write_bytes(content)
    install_model(start.store, "tiny", file)
    start.environment["OLLAMA_MODELS"] = str(start.store)


def pull_to_full_disk(ground: Ground) -> None:
    """Pull 250 MiB to a disk of 120."""
    name = ground.registry.put_bytes("large", os.urandom(2**20) * (LARGE_BYTES // 2**20))
    ground.pull(name, timeout_s=100)


def upload_to_full_disk(ground: Ground) -> None:
    """Upload a blob of 250 MiB to a disk of 120."""
    content = os.urandom(2**20) * (LARGE_BYTES // 2**20)
    ground.request("POST", f"/api/blobs/{digest_of(content)}", content)


def use_full_disk(ground: Ground) -> None:
    """The disk is full to the last byte; load, copy, create, delete."""
    with (ground.store / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError as error:
            ground.said.append(f"filled the disk: {error}")
    ground.generate()
    ground.request("POST", "/api/copy", {"source": "tiny", "destination": "second"})
    ground.request("POST", "/api/create", {"model": "third", "from": "tiny", "system": "Be short."})
    ground.pull(ground.registry.put("other", ground.models(tiny_gguf.OTHER)))


PULL_FAULTS = {
    "pull_unknown_model": Fault(pull_unknown),
    "pull_from_nowhere": Fault(pull_from_nowhere),
    "pull_registry_error": Fault(partial(pull_with, manifest_status=500)),
    "pull_blob_error": Fault(partial(pull_with, blob_status=500)),
    "pull_digest_mismatch": Fault(partial(pull_with, flip_byte_at=300_000)),
    "pull_without_location": Fault(partial(pull_with, sends_location=False)),
    "pull_damaged_part": Fault(pull_damaged_part),
    "pull_joined_and_left": Fault(pull_twice_and_leave, family="0.34"),
    "pull_cut_once": Fault(partial(pull_with, close_after_bytes=100_000, faults_left=1)),
    "pull_registry_restarted": Fault(pull_while_registry_restarts),
    "pull_registry_dead": Fault(pull_from_dead_registry),
    "pull_stalled_before_first_byte": Fault(partial(pull_with, stalls_before_first_byte=True, faults_left=1)),
    "pull_stalled_in_a_part": Fault(partial(pull_with, stall_after_bytes=100_000, faults_left=1)),
    "pull_registry_silent_on_manifest": Fault(partial(pull_with, silent_on=frozenset({"manifest"}))),
    "pull_registry_silent_on_blob": Fault(partial(pull_with, silent_on=frozenset({"GET"}))),
    "disk_full_in_pull": Fault(pull_to_full_disk, small_disk, needs_root=True),
    "disk_full_in_upload": Fault(upload_to_full_disk, small_disk, needs_root=True),
    "disk_full": Fault(use_full_disk, small_disk, needs_root=True),
}
