"""What is seen while people use the engine: what they did, what the log said of it, and how healthy it was."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arasul_supervisor.logs.meaning.outcomes import OUTCOMES

if TYPE_CHECKING:
    import threading

    from tests.engine.daemon import Daemon

LOOK_S = 0.25
MEANWHILE_S = 1.0
PATH = re.compile(r"(?<![\w/])/[\w.:@+-]+(?:/[\w.:@+-]*)+")
NUMBER = re.compile(r"(?:0x)?[0-9a-f]{6,}|\d+(?:\.\d+)*")
PULL_CRASH = "server.(*blobDownload).release("
LOUD = ("warning", "error")


@dataclass(frozen=True, slots=True)
class Deed:
    """One request of one user: its status, 0 when the user left before the answer, -1 when there was none."""

    began: float
    ended: float
    user: str
    act: str
    status: int
    complaint: str


@dataclass(frozen=True, slots=True)
class Flagged:
    """A line of the engine that was taken for a warning or an error."""

    at: float
    generation: int
    level: str
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Sick:
    """What `/health` said of an engine that had nothing."""

    generation: int
    status: str
    reason: str
    state: str
    errors: str


@dataclass(slots=True)
class Evidence:
    """All that was seen of a run."""

    deeds: list[Deed] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    flagged: list[Flagged] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    health: Counter[str] = field(default_factory=Counter)
    sick: list[Sick] = field(default_factory=list)  # what /health said and should not have
    own_warnings: list[str] = field(default_factory=list)  # the daemon's own events
    crashes: dict[int, str] = field(default_factory=dict)  # generations that died of a panic, and its line
    n_lines: int = 0
    n_missed_lines: int = 0

    @property
    def share_answered(self) -> float:
        """How many of all requests were answered with 200, from 0 to 1."""
        return sum(deed.status == 200 for deed in self.deeds) / max(1, len(self.deeds))

    def report(self) -> str:
        """What was done and seen; of each kind of false alarm a line, and what the users did just then."""
        complaints = Counter(f"{_short(deed)}: {deed.complaint}" for deed in self.deeds if deed.complaint)
        kinds: dict[str, list[Flagged]] = {}
        for line in self.flagged:
            kinds.setdefault(f"{line.outcome} {shape_of(line.text)}", []).append(line)
        parts = [
            f"{self.n_lines} engine lines ({self.n_missed_lines} missed) of {len(self.deeds)} requests, "
            f"{self.share_answered:.0%} answered with 200; "
            f"outcomes {dict(self.outcomes)}; health {dict(self.health)}",
            *(f"done {n} times: {act}" for act, n in sorted(self.acts.items())),
            *(f"answered {n} times: {what}" for what, n in sorted(Counter(map(_short, self.deeds)).items())),
            *(f"complained {n} times: {said}" for said, n in sorted(complaints.items())),
            *(f"/health {n} times: {said}" for said, n in Counter(map(_word, self.sick)).items()),
            *(f"daemon: {said}" for said in self.own_warnings),
            *(f"CRASHED generation {number}: {text}" for number, text in self.crashes.items()),
        ]
        for lines in kinds.values():
            first = lines[0]
            parts.append(f"FLAGGED {len(lines)} times as {first.outcome} ({first.level}): {first.text}")
            parts += (f"    meanwhile {said}" for said in self._meanwhile(first.at))
        return "\n".join(parts)

    def _meanwhile(self, at: float) -> list[str]:
        near = (deed for deed in self.deeds if deed.began < at and deed.ended > at - MEANWHILE_S)
        return [
            f"{deed.began - at:+.3f}..{deed.ended - at:+.3f} s: {deed.user} {_short(deed)} {deed.complaint}"
            for deed in near
        ]


class Witness:
    """Asks `/health` and reads `/api/logs` all the time, as a dashboard does."""

    def __init__(self, daemon: Daemon, evidence: Evidence) -> None:
        self._daemon = daemon
        self._evidence = evidence
        self._next = 0

    def watch(self, is_over: threading.Event) -> None:
        """Look until told to stop, then once more."""
        while not is_over.wait(LOOK_S):
            self._look()
        self._look()

    def _look(self) -> None:
        self._look_at_health(self._daemon.get("/health").json())
        while self._read_lines():
            pass

    def _look_at_health(self, body: Any) -> None:  # Any: JSON
        process, errors = body["process"], body["checks"]["errors"]
        self._evidence.health[body["status"]] += 1
        is_up = process["state"] == "running"
        allowed = ("healthy",) if is_up else ("starting", "healthy", "unhealthy")
        if body["status"] not in allowed or errors["status"] != "ok":
            self._evidence.sick.append(
                Sick(
                    process["generation"], body["status"], body["reason"], process["state"], errors["detail"]
                )
            )

    def _read_lines(self) -> bool:
        page = self._daemon.get(f"/api/logs?lines=5000&since={self._next}").json()
        self._next = page["next"]
        self._evidence.n_missed_lines += page["dropped"]
        self._evidence.n_lines += len(page["lines"])
        for line in page["lines"]:
            if line["outcome"]:
                self._evidence.outcomes[line["outcome"]] += 1
            if line["outcome"] and OUTCOMES[line["outcome"]].severity in LOUD:
                self._evidence.flagged.append(
                    Flagged(time.time(), line["generation"], line["level"], line["outcome"], line["text"])
                )
        return len(page["lines"]) == 5000


def read_own_log(daemon: Daemon, evidence: Evidence) -> None:
    """Add what the daemon itself logged: its warnings, and the engines that crashed.

    Ollama 0.34.4 panics now and then when a client leaves a pull in the instant in which a download begins
    (server/download.go, `release`: CancelFunc is nil). What the log says of such a crash is true.
    """
    lines = (json.loads(line) for line in (daemon.folder / "daemon.out").read_text().splitlines())
    events = [line for line in lines if line["source"] == "arasul"]
    evidence.own_warnings += [str(event) for event in events if event["level"] in LOUD]
    dead = {
        event["generation"] for event in events if event["event"] == "engine_exited" and event["code"] == 2
    }
    if PULL_CRASH in daemon.engine_log_text():
        panics = (line for line in evidence.flagged if line.outcome == "panic" and line.generation in dead)
        evidence.crashes |= {line.generation: line.text for line in panics}
    evidence.flagged = [
        line for line in evidence.flagged if line.text != evidence.crashes.get(line.generation)
    ]
    evidence.sick = [sick for sick in evidence.sick if sick.generation not in evidence.crashes]


def ask(
    port: int,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    patience_s: float = 60.0,
) -> tuple[int, bytes]:
    """One request by somebody who leaves when the patience ends.

    :returns: status and body; status 0 for who left, -1 when the connection failed
    """
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    end = time.monotonic() + patience_s
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=max(0.001, patience_s))
    content = b""
    try:
        connection.request(method, path, body=data, headers=headers or {})
        sock = connection.sock
        with connection.getresponse() as response:
            while piece := response.read1(65536):
                content += piece
                if time.monotonic() >= end:
                    return 0, content
                sock.settimeout(max(0.001, end - time.monotonic()))
            return response.status, content
    except TimeoutError:
        return 0, content
    except (OSError, http.client.HTTPException) as error:
        return -1, repr(error).encode()
    finally:
        connection.close()


def complaint_in(status: int, content: bytes) -> str:
    """What an answer complains of: a failure inside the engine, or an error at the end of a stream.

    Not that the engine is down: that is the operator's doing.
    """
    last = content.rstrip().rpartition(b"\n")[2]
    is_failure = status >= 500 and status != 503
    if is_failure or (status == 200 and last.startswith(b'{"error":"')):
        return shape_of(last[:250].decode(errors="replace"))
    return ""


def shape_of(text: str) -> str:
    """The text with all that differs from one time to the next taken out."""
    return NUMBER.sub("N", PATH.sub("PATH", text))


def _short(deed: Deed) -> str:
    return f"{deed.act} -> {deed.status}"


def _word(sick: Sick) -> str:
    return f"{sick.status} while {sick.state}: {sick.reason} | {sick.errors}"
