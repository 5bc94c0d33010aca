"""CONTRACT §4, "No endpoint may hang on a sick engine": the real daemon over an engine that is frozen or goes away."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.engine.daemon import Daemon, DaemonFactory

FROM_MEMORY = ("/health", "/livez", "/readyz", "/api/stats", "/api/info", "/api/process", "/api/logs")
SLACK_S = 0.5


def freeze(daemon: Daemon) -> None:
    os.kill(daemon.process()["pid"], signal.SIGSTOP)


def test_a_frozen_engine_is_seen_and_told_by_health(daemon: DaemonFactory) -> None:
    subject = daemon().wait_ready()
    freeze(subject)

    subject.wait_for(lambda: subject.get("/health").status == 503, what="/health is 503", limit_s=10)

    assert subject.get("/health").json()["status"] == "unhealthy"
    assert subject.get("/readyz").status == 503


@pytest.mark.parametrize("path", FROM_MEMORY)
def test_what_is_told_from_memory_does_not_wait_for_a_frozen_engine(daemon: DaemonFactory, path: str) -> None:
    subject = daemon().wait_ready()
    freeze(subject)

    slowest_s = max(subject.get(path).took_s for _ in range(50))

    assert slowest_s < 1.0


@pytest.mark.parametrize(
    ("method", "path", "bound_s"),
    [("GET", "/api/models/loaded", 3.0), ("POST", "/api/cache/clear", 5.0)],
)
def test_a_frozen_engine_is_a_504_within_the_bound(
    daemon: DaemonFactory, method: str, path: str, bound_s: float
) -> None:
    subject = daemon().wait_ready()
    freeze(subject)

    answer = subject.request(method, path)

    assert (answer.status, answer.json()["code"]) == (504, "engine_silent")
    assert answer.took_s < bound_s + SLACK_S


def test_a_recovery_of_a_frozen_engine_restarts_it(daemon: DaemonFactory) -> None:
    subject = daemon().wait_ready()
    freeze(subject)

    answer = subject.post("/api/gpu/recover")

    assert (answer.json()["action"], answer.json()["can_retry"]) == ("engine_restarting", True)
    assert answer.took_s < 12.0 + SLACK_S
    assert subject.get("/readyz").status == 200


def test_stop_and_start_are_waited_for(daemon: DaemonFactory) -> None:
    subject = daemon().wait_ready()

    stopped = subject.post("/api/process/stop")
    meanwhile = subject.get("/api/tags")
    health = subject.get("/health")
    started = subject.post("/api/process/start")

    assert (stopped.status, stopped.json()["state"], stopped.json()["wanted"]) == (200, "stopped", "down")
    assert (meanwhile.status, meanwhile.json()["code"]) == (503, "engine_down")
    assert "operator" in health.json()["reason"]
    assert (started.status, started.json()["state"]) == (200, "running")
    assert subject.get("/api/tags").status == 200


def test_open_streams_do_not_hold_up_the_end_of_the_daemon(daemon: DaemonFactory) -> None:
    subject = daemon("tokens,s=5;pull,silent_after=2").wait_ready()
    requests = (
        b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n{"model":"tiny","prompt":"hi"} ',
        b'POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n{"model":"fresh"}',
        b"GET /heal",
    )
    clients = [socket.create_connection(("127.0.0.1", subject.port)) for _ in requests]
    for client, request in zip(clients, requests, strict=True):
        client.sendall(request)
    subject.wait_for(lambda: bool(subject.get("/api/models/pulls").json()["pulls"]), what="a pull is there")

    began = time.monotonic()
    code = subject.stop()

    assert code == 0
    assert time.monotonic() - began < 5.0
    for client in clients:
        client.close()
