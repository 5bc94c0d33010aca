"""What happens below and around a daemon while a bench watches how it answers; each returns when it is over."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.answers.ollama import MODEL
from bench.answers.stream_client import read_streams
from bench.logs.flood import OVER, SESSION, tail_of
from bench.subject import wait_for

if TYPE_CHECKING:
    from bench.answers.wrk import Wrk
    from bench.subject import Subject
    from tests.engine.registry import Registry

LIMIT_S: Final = 120.0
FLOOD_MB_PER_S: Final = 100
STREAMS: Final = 16
LINES_PER_S: Final = 100
FAST_LINES: Final = 400_000
BIG: Final = "big"
ASK_S: Final = 0.05


def load(wrk: Wrk, port: int, span_s: float, *, connections: int) -> None:
    """As many requests for /health as are answered."""
    wrk.load(port, "/health", connections=connections, seconds=max(1, round(span_s)))


def stream(subject: Subject, span_s: float) -> None:
    """Answers of the engine pass through, as models speak."""
    body = {"model": MODEL, "lines": int(LINES_PER_S * span_s), "per_s": LINES_PER_S}
    read_streams(subject.daemon.port, body, streams=STREAMS)


def stream_fast(subject: Subject) -> None:
    """The same as fast as they are written."""
    body = {"model": MODEL, "lines": FAST_LINES // STREAMS, "per_s": 0}
    read_streams(subject.daemon.port, body, streams=STREAMS)


def flood(subject: Subject, span_s: float) -> None:
    """The engine writes recorded log lines."""
    total_mb = int(FLOOD_MB_PER_S * span_s)
    subject.engine.control(f"replay,file={SESSION},total_mb={total_mb},mb_per_s={FLOOD_MB_PER_S}")
    public_log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    wait_for(lambda: OVER in tail_of(public_log), what="the flood is over", limit_s=LIMIT_S)
    subject.engine.control("")


def kill_often(subject: Subject, number: int) -> None:
    """The engine dies as soon as it is ready."""
    for _ in range(number):
        dead = subject.engine.lives()[-1]
        os.kill(dead, signal.SIGKILL)
        wait_for(partial(_has_next, subject, dead), what="the next engine")
        wait_for(lambda: subject.daemon.get("/readyz").status == 200, what="it is ready", limit_s=LIMIT_S)


def _has_next(subject: Subject, dead: int) -> bool:
    return subject.engine.lives()[-1] != dead


def freeze(subject: Subject, span_s: float) -> None:
    """The engine stands still, then goes on."""
    pid = subject.engine.lives()[-1]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(span_s)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: subject.daemon.get("/health").status != 503, what="/health is 200 again")


def list_anew(subject: Subject, number: int) -> None:
    """The list of the models is asked for; each time what is known of it has just been dropped, and is got anew."""
    for _ in range(number):
        assert subject.daemon.post("/api/cache/clear").status == 200
        assert subject.daemon.get("/api/models").status == 200


def clear_often(subject: Subject, number: int) -> None:
    """A model is loaded, and all are unloaded."""
    for _ in range(number):
        assert subject.daemon.engine("POST", "/api/generate", {"model": MODEL}).json()["done"]
        assert subject.daemon.post("/api/cache/clear").json()["unloaded_models"]


def pull(subject: Subject, registry: Registry) -> None:
    """A large model is pulled."""
    body = {"model": registry.name(BIG), "insecure": True, "background": True}
    _wait_for_job(subject, "/api/models/pull", body)


def verify(subject: Subject, registry: Registry) -> None:
    """A large model is read and hashed."""
    _wait_for_job(subject, "/api/models/verify", {"model": registry.name(BIG)})


def _wait_for_job(subject: Subject, path: str, body: dict[str, object]) -> None:
    job = subject.daemon.post(path, body).json()
    end_s = time.monotonic() + LIMIT_S
    while job["state"] not in ("done", "failed", "cancelled") and time.monotonic() < end_s:
        time.sleep(ASK_S)
        job = subject.daemon.get(f"/api/models/pulls/{job['id']}").json()
    if job["state"] != "done":
        raise RuntimeError(f"{path} of {body['model']} is {job['state']}: {job['error']}")
