"""The commands about models against a whole daemon with the real Ollama: what they show is what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.engine.store import blob_path, digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles

LIMIT_S: Final = 60.0


def test_a_model_is_pulled_found_damaged_and_repaired_by_the_command_line(
    daemon: DaemonFactory,
    engine_binary: Path,
    registry: Registry,
    model_files: ModelFiles,
    tmp_path: Path,
) -> None:
    registry.switches.bytes_per_s = 600_000  # Ollama tells its progress each 60 ms
    name, store = registry.put("tiny", model_files()), tmp_path / "models"
    store.mkdir()
    running = daemon(engine=engine_binary, models=store).wait_ready(limit_s=60)

    pulled = _ask(running, "pull", name, "--insecure", "--wait")
    assert pulled.stdout.splitlines()[-1] == "success"
    assert " % of 451 kB" in pulled.stdout
    [job] = json.loads(_ask(running, "pulls", "--json").stdout)["pulls"]
    assert (job["state"], job["model"], job["total"]) == ("done", name, job["completed"])

    assert _ask(running, "verify").stdout.splitlines()[-1] == "Every model is whole."
    _flip_a_byte(blob_path(store, digest_of(model_files().read_bytes())))
    damaged = _ask(running, "verify", name, code=1)
    assert damaged.stdout.splitlines()[-1].startswith(f"{name}: ")

    assert _ask(running, "repair", name).stdout.splitlines()[-1] == f"{name} is whole."


def test_a_pull_in_the_background_is_cancelled_by_its_name_with_what_it_brought(
    daemon: DaemonFactory, engine_binary: Path, registry: Registry, model_files: ModelFiles, tmp_path: Path
) -> None:
    registry.switches.bytes_per_s = 50_000
    name, store = registry.put("tiny", model_files()), tmp_path / "models"
    store.mkdir()
    running = daemon(engine=engine_binary, models=store).wait_ready(limit_s=60)

    _ask(running, "pull", name, "--insecure", "--background")
    running.wait_for(lambda: any((store / "blobs").glob("*-partial*")), what="a part")
    cancelled = _ask(running, "pull", name, "--cancel", "--purge")

    assert cancelled.stdout.startswith(f"Cancelled the pull of {name}; ")
    assert " freed" in cancelled.stdout
    assert list((store / "blobs").glob("*-partial*")) == []


def _ask(daemon: Daemon, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "ARASUL_URL": daemon.url}
    command = (sys.executable, "-m", "arasul_supervisor", *words)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def _flip_a_byte(blob: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
