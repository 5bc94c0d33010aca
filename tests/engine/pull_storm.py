"""A storm: many pulls through one daemon while registry, line, engine and daemon fail at random instants.

One thread does all of it, so that a seed repeats the events and their order; their instants are real.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.engine.processes import is_alive, wait_until
from tests.engine.pull_storm_account import Killing
from tests.engine.pull_storm_weather import weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.daemon import Answer, Daemon
    from tests.engine.pull_storm_weather import Event
    from tests.engine.registry import Registry

ASKED_AT_ONCE: Final = 6  # the daemon runs three of them, the others queue
LOOK_S: Final = 0.02
ENDED: Final = ("done", "failed", "cancelled", "lost")
SHARED_LAYER: Final = random.Random("shared").randbytes(300_000)


@dataclass(slots=True)
class Pull:
    """One pull as its watcher sees it, poll by poll."""

    model: str
    name: str = ""
    job_id: str = ""
    state: str = "unasked"
    attempts: int = 0
    completed: int = 0
    error: str | None = None

    @property
    def is_under_way(self) -> bool:
        """True from the asking to the end."""
        return bool(self.job_id) and self.state not in ENDED


@dataclass(slots=True)
class Storm:
    """One storm, and what went wrong in it: `wrongs` are sentences, `sizes` the bytes of each blob by digest."""

    daemon: Daemon
    registry: Registry
    rng: random.Random
    pulls: list[Pull]
    n_large: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    killings: list[Killing] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    blows: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _is_over: bool = False

    def rage(self, *, every_s: float, limit_s: float) -> None:
        """Ask for all pulls, a few at a time, and watch them to their ends; an event about every `every_s`."""
        began_mono = time.monotonic()
        for events in weather(len(self.pulls), self.rng, every_s=every_s):
            self._brew(iter(events))
        while any(pull.state not in ENDED for pull in self.pulls):
            if time.monotonic() > began_mono + limit_s:
                self.wrongs.append(f"not all had ended after {limit_s:g} s: {self._unfinished()}")
                break
            self._ask()
            self._look()
            self._do_what_is_due(time.monotonic())
            time.sleep(LOOK_S)
        self.took_s = time.monotonic() - began_mono
        self._is_over = True
        self._do_what_is_due(float("inf"))

    def _brew(self, events: Iterator[Event]) -> None:
        """Let the next of these events happen, and the others after it, until the storm is over."""
        event = next(events, None)
        if event is not None and not self._is_over:
            self._strike(event, time.monotonic())
            self._later.append((time.monotonic() + event.after_s, lambda: self._brew(events)))

    def _ask(self) -> None:
        unfinished = sum(pull.is_under_way for pull in self.pulls)
        waiting = [pull for pull in self.pulls if not pull.job_id][: ASKED_AT_ONCE - unfinished]
        for pull in waiting:
            if not pull.name:
                self._offer(pull)
            body = {"model": pull.name, "insecure": True, "background": True}
            answer = self._request("POST", "/api/models/pull", body)
            if answer is None or answer.status == 503:
                return  # daemon or engine is down: whoever asks comes again
            if answer.status != 202:
                self.wrongs.append(f"{pull.name} was not begun: {answer.status} {answer.body!r}")
                pull.state = "lost"
                continue
            pull.job_id, pull.state = answer.json()["id"], "queued"

    def _offer(self, pull: Pull) -> None:
        contents = [
            self.rng.randbytes(int(200_000 * 20 ** self.rng.random())) for _ in range(self.rng.randint(3, 5))
        ]
        if self.rng.random() < 0.25:
            contents.append(SHARED_LAYER)
        if self.n_large:
            self.n_large -= 1
            contents[0] = self.rng.randbytes(1024 * 1024) * self.rng.randint(110, 230)
        pull.name = self.registry.put_layers(pull.model, contents)
        blobs = self.registry.models[pull.name.partition("/")[2]].blobs
        self.sizes |= {digest: len(content) for digest, content in blobs.items()}

    def _look(self) -> None:
        for pull in self.pulls:
            if not pull.is_under_way:
                continue
            answer = self._request("GET", f"/api/models/pulls/{pull.job_id}")
            if answer is None:
                return
            if answer.status == 404:
                self.wrongs.append(f"job {pull.job_id} of {pull.name} was lost, last seen {pull.state}")
                pull.state = "lost"
                continue
            self._note(pull, answer.json())

    def _note(self, pull: Pull, job: Any) -> None:  # Any: an answer's JSON
        if job["attempts"] == pull.attempts and job["completed"] < pull.completed:
            self.wrongs.append(
                f"job {pull.job_id} went back from {pull.completed} ({pull.state}) to {job['completed']} bytes "
                f"({job['state']}) in attempt {pull.attempts}"
            )
        if job["attempts"] < pull.attempts:
            self.wrongs.append(
                f"job {pull.job_id} went back from attempt {pull.attempts} to {job['attempts']}"
            )
        pull.state, pull.attempts, pull.completed = job["state"], job["attempts"], job["completed"]
        pull.error = job["error"]
        if pull.state == "done":
            self.registry.withdraw_blobs(pull.model)
        elif pull.state in ENDED:
            self.wrongs.append(f"{pull.name} ended {pull.state} in attempt {pull.attempts}: {pull.error}")

    def _strike(self, event: Event, now_mono: float) -> None:
        match event.blow:
            case "fault":
                assert event.fault is not None
                self.registry.faults.add(event.fault)
            case "outage":
                self.registry.go_down()
                self._later.append((now_mono + event.lasts_s, self.registry.come_back))
            case "watcher leaves":
                self._watch_for_a_while(now_mono + event.lasts_s)
            case "kill engine" | "kill daemon":
                self._kill(event.blow.removeprefix("kill "))
        self.blows[event.blow] += 1

    def _watch_for_a_while(self, until_mono: float) -> None:
        under_way = [pull for pull in self.pulls if pull.is_under_way]
        if not under_way:
            return
        body = json.dumps({"model": self.rng.choice(under_way).name, "insecure": True}).encode()
        head = f"POST /api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            watcher = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=2)
            watcher.sendall(head.encode() + body)
        except OSError:
            return
        self._later.append((until_mono, watcher.close))

    def _kill(self, who: str) -> None:
        seen = self._request("GET", "/api/process")
        engine_pid = seen.json()["pid"] if seen is not None else None
        if engine_pid is None:
            return
        at_mono = time.monotonic()
        if who == "engine":
            os.kill(engine_pid, signal.SIGKILL)
        else:
            self.daemon.signal(signal.SIGKILL)
            self.daemon.wait_exit()
        wait_until(lambda: not is_alive(engine_pid), limit_s=10, what="the killed engine is gone")
        self.killings.append(Killing(who, at_mono, time.monotonic()))
        if who == "daemon":
            self.daemon.start()
            for pull in self.pulls:
                pull.completed = (
                    0  # its attempt has ended with the daemon, also where the next is not counted yet
                )

    def _do_what_is_due(self, now_mono: float) -> None:
        due = [entry for entry in self._later if entry[0] <= now_mono]
        self._later = [entry for entry in self._later if entry[0] > now_mono]
        for _, act in due:
            act()

    def _request(self, method: str, path: str, body: dict[str, object] | None = None) -> Answer | None:
        """None while the daemon is down."""
        if self.daemon.popen.poll() is not None:
            self.wrongs.append(f"the daemon exited {self.daemon.popen.returncode}")
            self.daemon.start()
        try:
            return self.daemon.request(method, path, body=body, timeout_s=5)
        except (OSError, http.client.HTTPException):
            return None

    def _unfinished(self) -> list[Pull]:
        return [pull for pull in self.pulls if pull.state not in ENDED]
