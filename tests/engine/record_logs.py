"""Records what the real engine writes about each fault, and about ordinary use.

    python -m tests.engine.record_logs --engine /usr/bin/ollama --out recorded [FAULT…]

`<fault>.log` is stdout and stderr of one engine in one file, as the daemon lets it write; `<fault>.client` is what
its clients saw.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine import tiny_gguf
from tests.engine.daemon import MARKER, send
from tests.engine.fault_ground import Fault, Ground, Start
from tests.engine.log_faults import FAULTS
from tests.engine.processes import kill_all_with, pick_free_port, wait_until
from tests.engine.registry import start_registry
from tests.engine.store import ModelFiles, install_model

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_LIMIT_S = 60.0
SETTLES_S = 0.5
STOP_LIMIT_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the faults that are named, or all; 1 when one could not be brought about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    known = {"ordinary": Fault(ordinary_use), **FAULTS}
    family = version_of(chosen.engine).rpartition(".")[0]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        models = ModelFiles(Path(folder))
        for name in chosen.faults or known:
            if known[name].family not in ("", family):
                continue
            begun = time.monotonic()
            try:
                record(name, known[name], chosen.engine, chosen.out, models)
                print(f"{name}: {time.monotonic() - begun:.1f} s", flush=True)
            except (pytest.fail.Exception, OSError, RuntimeError) as error:
                failed += 1
                print(f"{name}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def version_of(engine: Path) -> str:
    """What the binary says of itself: `0.34.4`."""
    said = subprocess.run(
        [engine, "--version"], env={"HOME": "/nonexistent"}, capture_output=True, text=True, check=True
    )
    return said.stdout.split()[-1]


def record(name: str, fault: Fault, engine: Path, out: Path, models: ModelFiles) -> None:
    """Start a fresh engine, bring the fault about, stop the engine, and keep its log."""
    log, registry = out / f"{name}.log", start_registry()
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="record-") as folder, contextlib.ExitStack() as at_end:
        start = prepared(Path(folder), engine, models, at_end)
        at_end.callback(registry.stop)
        fault.prepare(start)
        ground = Ground(start.port, start.store, f"{MARKER}={folder}", models, registry)
        at_end.callback(kill_all_with, ground.marker)
        server = spawned(start, log)
        try:
            if not fault.is_refusal:
                wait_until(
                    lambda: answers(start.port, server), limit_s=READY_LIMIT_S, what="the engine answers"
                )
                fault.drive(ground)
                time.sleep(SETTLES_S)
                server.send_signal(signal.SIGTERM)
            ground.said.append(f"the server ended with {server.wait(STOP_LIMIT_S)}")
        finally:
            server.kill()
            server.wait()
            (out / f"{name}.client").write_text("\n".join(ground.said) + "\n", encoding="utf-8")


def prepared(folder: Path, engine: Path, models: ModelFiles, at_end: contextlib.ExitStack) -> Start:
    """An ordinary start over a store that holds `tiny`."""
    home, store, port = folder / "home", folder / "store", pick_free_port()
    home.mkdir()
    install_model(store, "tiny", models())
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
        MARKER: str(folder),
    }
    return Start(folder, engine, store, port, environment, at_end)


def spawned(start: Start, log: Path) -> subprocess.Popen[bytes]:
    """The engine's process."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            [*start.under, str(start.binary), "serve"],
            env=start.environment,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Whether it serves.

    :raises RuntimeError: it has ended
    """
    if server.poll() is not None:
        raise RuntimeError(f"the engine ended with {server.returncode}")
    try:
        return send(port, "GET", "/api/version").status == 200
    except OSError:
        return False


def ordinary_use(ground: Ground) -> None:
    """What a healthy day holds: nothing of it is a fault."""
    ground.generate()
    messages = [{"role": "user", "content": "hello"}]
    for stream in (True, False):
        options = {"num_predict": 20}
        ground.request(
            "POST", "/api/chat", {"model": "tiny", "messages": messages, "stream": stream, "options": options}
        )
    ground.request("POST", "/v1/chat/completions", {"model": "tiny", "messages": messages, "max_tokens": 8})
    ground.install("embedder", tiny_gguf.EMBEDDING)
    ground.request("POST", "/api/embed", {"model": "embedder", "input": "abc"})
    name = ground.registry.put("other", ground.models(tiny_gguf.OTHER))
    ground.pull(name)
    ground.pull(name)
    ground.generate(name, options={"num_ctx": 1024})
    ground.generate(name, options={"num_ctx": 2048})
    ground.generate(name, options={"num_ctx": 8192})
    ground.request("POST", "/api/copy", {"source": name, "destination": "short"})
    ground.request("POST", "/api/create", {"model": "made", "from": "short", "system": "Be short."})
    for path in ("/api/tags", "/api/ps", "/v1/models", "/", "/nosuch"):
        ground.request("GET", path)
    ground.request("POST", "/api/show", {"model": "tiny"})
    ground.generate("nosuch")
    ground.request("POST", "/api/generate", b"{")
    ground.abandon(
        "/api/generate", {"model": "tiny", "prompt": "a", "options": {"num_predict": 100_000}}, after_s=0.5
    )
    ground.abandon(
        "/api/generate", {"model": "made", "prompt": "a", "options": {"num_predict": 100_000}}, after_s=0.05
    )
    ground.registry.switches.bytes_per_s = 100_000
    third = ground.registry.put("third", ground.models(tiny_gguf.SMALLEST))
    ground.abandon("/api/pull", {"model": third, "insecure": True}, after_s=0.5)
    ground.registry.switches.bytes_per_s = 0
    ground.pull(third)
    for model in ("tiny", "short", "embedder"):
        ground.request("POST", "/api/generate", {"model": model, "keep_alive": 0})
    ground.request("DELETE", "/api/delete", {"model": "short"})
    ground.generate(options={"num_predict": 400})
    time.sleep(5)


if __name__ == "__main__":
    sys.exit(main())
