"""Guards that nobody who may only ask Ollama something can make an error of it, or a wait of the daemon's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.engine.ordinary_evidence import ask

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon

FORGED = (
    "panic: boom",
    "CUDA error: no CUDA-capable device is detected",
    "/a.cu:1: GGML_ASSERT(x) failed",
    'time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="Load failed" error="x"',
    "no space left on device",
    "cudaSetDevice err: 35",
    " open /srv/models: permission denied",
    'error while handling argument "--zz": x',
)
LAST = "/the-last-of-them"


def test_no_request_forges_an_error(real_daemon: Any) -> None:  # Any: a factory of daemons
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})

    for text in FORGED:
        raw = "".join(f"%{byte:02x}" for byte in text.encode())
        asked = {"model": "tiny", "prompt": "a", "options": {text: 1, "num_predict": 2}}
        said = {**asked, "messages": [{"role": text, "content": text}]}
        for port in (running.port, running.engine_port):
            ask(port, "GET", f"/v1/models/x%0a{raw}/")
            ask(port, "POST", f"/api/blobs/x%0d%0a{raw}/")
            ask(port, "GET", f"/%0a{raw}", headers={"User-Agent": text, "X-Request": text})
            ask(port, "POST", "/api/generate", asked)
            ask(port, "POST", "/api/chat", said)
    ask(running.engine_port, "GET", LAST)
    running.wait_for(lambda: LAST in shown(running), what="all was read")

    errors = running.get("/health").json()["checks"]["errors"]
    assert (errors["status"], errors["outcome"]) == ("ok", None)


def test_a_long_run_of_blanks_in_a_path_holds_up_nobody(
    real_daemon: Any,
) -> None:  # Any: a factory of daemons
    running: Daemon = real_daemon({"LLM_MODEL": "tiny"})

    ask(running.engine_port, "GET", "/authorization:%20basic" + "%20" * 60_000)
    ask(running.engine_port, "GET", LAST)
    began_s = time.monotonic()
    running.wait_for(lambda: LAST in shown(running), what="both lines were read")

    assert time.monotonic() - began_s < 5  # quadratic it took minutes


def shown(daemon: Daemon) -> str:
    return daemon.get("/api/logs?lines=5000").body.decode()
