"""Faults of model files and of loads."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.engine import tiny_gguf
from tests.engine.fault_ground import Fault, variables, without_debugger
from tests.engine.store import blob_path, digest_of, install_model, manifest_path

if TYPE_CHECKING:
    from tests.engine.fault_ground import Ground, Start
    from tests.engine.tiny_gguf import Shape

NAME = "broken"


def load_shape(ground: Ground, shape: Shape) -> None:
    """Ask a model of that shape."""
    ground.install(NAME, shape)
    ground.generate(NAME)


def load_cut(ground: Ground, size_bytes: int) -> None:
    """Ask a model whose file ends early: 200 kB cut its tensors, 3 kB its header, 0 leaves nothing."""
    _load_bytes(ground, ground.models().read_bytes()[:size_bytes])


def load_random_bytes(ground: Ground) -> None:
    """Ask a model whose file is noise."""
    _load_bytes(ground, random.Random(1).randbytes(200_000))


def load_missing_blob(ground: Ground) -> None:
    """Ask a model whose file is gone."""
    blob_path(ground.store, ground.install(NAME, tiny_gguf.OTHER)).unlink()
    ground.generate(NAME)
    ground.request("POST", "/api/show", {"model": NAME})
    ground.request("GET", "/api/tags")


def read_damaged_manifest(ground: Ground) -> None:
    """List, show and delete a model whose manifest was cut by a power failure."""
    ground.install(NAME, tiny_gguf.OTHER)
    manifest = manifest_path(ground.store, NAME)
    manifest.write_bytes(manifest.read_bytes()[:100])
    ground.request("GET", "/api/tags")
    ground.generate(NAME)
    ground.request("DELETE", "/api/delete", {"model": NAME})


def start_with_damaged_manifest(start: Start) -> None:
    """The manifest is damaged before the start, whose pruning meets it."""
    manifest = manifest_path(start.store, NAME)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_bytes(b'{"schemaVersion":2')
    start.environment.pop("OLLAMA_NOPRUNE")


def create_from_random_bytes(ground: Ground) -> None:
    """Upload noise as a blob and make a model of it."""
    noise = random.Random(1).randbytes(200_000)
    digest = digest_of(noise)
    ground.request("POST", f"/api/blobs/{digest}", noise)
    ground.request("POST", "/api/create", {"model": NAME, "files": {"x.gguf": digest}})


def load_with_context(ground: Ground, tokens: int) -> None:
    """Ask for that much context, of 256 bytes a token; then for a model that fits."""
    ground.install(NAME, tiny_gguf.ENDLESS)
    ground.generate(NAME, options={"num_ctx": tokens})
    ground.generate()


def signal_while_loading(ground: Ground, number: signal.Signals) -> None:
    """The runner ends as soon as it is there; the client waits ten seconds, then one more request is made."""
    body = {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    with ground.meanwhile("POST", "/api/generate", body, timeout_s=10):
        ground.signal_runner(number)
    ground.generate()


def stall_load(ground: Ground, after_s: float) -> None:
    """The runner stands still so long after it appeared; the client waits ten seconds. 128 MB load in 0.3 s."""
    ground.install("slow", tiny_gguf.SLOW)
    body = {"model": "slow", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    with ground.meanwhile("POST", "/api/generate", body, timeout_s=10):
        runner = ground.wait_runner()
        time.sleep(after_s)
        os.kill(runner, signal.SIGSTOP)
    ground.generate()


def leave_while_loading(ground: Ground) -> None:
    """The client goes away while the model is loaded."""
    body = {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    ground.abandon("/api/generate", body, after_s=0.1)
    time.sleep(2)


def limit_memory(start: Start) -> None:
    """Each process of the engine has 4 GiB of address space: without a limit llama-server takes all there is."""
    start.under = ("prlimit", f"--as={4 * 2**30}")


def _load_bytes(ground: Ground, content: bytes) -> None:
    file = ground.store / f"{os.getpid()}.gguf"
    file.write_bytes(content)
    install_model(ground.store, NAME, file)
    file.unlink()
    ground.generate(NAME)
    ground.request("GET", "/api/tags")


MODEL_FAULTS = {
    "gguf_unknown_architecture": Fault(partial(load_shape, shape=tiny_gguf.UNKNOWN_ARCHITECTURE)),
    "gguf_without_tokens": Fault(partial(load_shape, shape=tiny_gguf.WITHOUT_TOKENS)),
    "gguf_without_tensor": Fault(partial(load_shape, shape=tiny_gguf.WITHOUT_TENSOR)),
    "gguf_without_block_count": Fault(partial(load_shape, shape=tiny_gguf.WITHOUT_BLOCK_COUNT)),
    "assert_in_load": Fault(partial(load_shape, shape=tiny_gguf.MORE_KV_HEADS), without_debugger),
    "assert_with_debugger": Fault(partial(load_shape, shape=tiny_gguf.MORE_KV_HEADS)),
    "assert_in_computation": Fault(partial(load_shape, shape=tiny_gguf.NEGATIVE_EPSILON), without_debugger),
    "assert_in_answer": Fault(
        partial(load_shape, shape=tiny_gguf.WITHOUT_CONTEXT), without_debugger, family="0.34"
    ),
    "gguf_cut_in_tensors": Fault(partial(load_cut, size_bytes=200_000)),
    "gguf_cut_in_header": Fault(partial(load_cut, size_bytes=3_000)),
    "gguf_empty": Fault(partial(load_cut, size_bytes=0)),
    "gguf_random_bytes": Fault(load_random_bytes),
    "blob_missing": Fault(load_missing_blob),
    "manifest_damaged": Fault(read_damaged_manifest),
    "manifest_damaged_at_start": Fault(lambda ground: None, start_with_damaged_manifest),
    "create_from_random_bytes": Fault(create_from_random_bytes),
    "load_too_large": Fault(partial(load_with_context, tokens=2**30), limit_memory),  # 256 GiB
    "load_out_of_memory": Fault(partial(load_with_context, tokens=2**25), limit_memory),  # 8 GiB
    "runner_killed_while_loading": Fault(partial(signal_while_loading, number=signal.SIGKILL)),
    "runner_segfaulted_while_loading": Fault(partial(signal_while_loading, number=signal.SIGSEGV)),
    "runner_aborted_while_loading": Fault(partial(signal_while_loading, number=signal.SIGABRT)),
    "load_stalled": Fault(partial(stall_load, after_s=0.15), variables(OLLAMA_LOAD_TIMEOUT="5s")),
    # ≤ 0.29 has no limit on what comes before the load proper
    "load_stalled_at_once": Fault(partial(stall_load, after_s=0), variables(OLLAMA_LOAD_TIMEOUT="5s")),
    "client_left_while_loading": Fault(leave_while_loading),
}
