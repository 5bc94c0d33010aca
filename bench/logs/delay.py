"""The time from the engine's write of a rule line until the event shows: on the daemon's stdout, and in its API.

The line carries the instant of its writing; both clocks are the machine's monotonic one. On stdout nothing is polled:
the reader sleeps in `read` until the daemon has written, and a line that a rule has raised to `error` or `warning`
has been through the rules. The API is asked again and again on a kept connection, so its figure holds half an
interval of asking and one request more than the truth.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Figure, Goal, Outcome
from bench.logs.flood import OVER, SESSION, tail_of
from bench.logs.rule_lines import MARK, RULE_LINES, SOWN, sowing_text
from bench.subject import ready_daemon, wait_for

if TYPE_CHECKING:
    from bench.subject import Subject

FULL_LINES: Final = 400
QUICK_LINES: Final = 100
SOW_S: Final = 0.05
ASK_S: Final = 0.002
LIMIT_S: Final = 120.0
SETTLE_S: Final = 0.5
IN_50_MS: Final = Goal("<=", 50)
BACKGROUNDS: Final = {"idle": "", "20 MB/s beside": f",file={SESSION},mb_per_s=20"}
OUTCOME: Final = RULE_LINES[0][0]


def measure(*, is_quick: bool) -> Outcome:
    """Rule lines at uneven intervals of 50 ms in the mean, alone and among 20 MB/s of recorded lines."""
    n_lines = QUICK_LINES if is_quick else FULL_LINES
    outcome = Outcome()
    for name, background in BACKGROUNDS.items():
        with ready_daemon(is_read=True, kept=MARK) as subject:
            _sow(subject, n_lines, background)
            shown_ms = _wait_for_output(subject)
        outcome.add_percentiles(f"{name}: write to stdout", shown_ms, "ms", p99_goal=IN_50_MS)
        outcome.figures.append(Figure(f"{name}: lines on stdout, of {n_lines}", len(shown_ms), "lines"))
        with ready_daemon(is_read=True, kept=MARK) as subject:
            _sow(subject, n_lines, background)
            asked_ms = _ask(subject)
        outcome.add_percentiles(f"{name}: write to /api/logs", asked_ms, "ms", p99_goal=IN_50_MS)
        outcome.figures.append(Figure(f"{name}: lines in /api/logs, of {n_lines}", len(asked_ms), "lines"))
    return outcome


def _sow(subject: Subject, n_lines: int, background: str) -> None:
    file = subject.engine.folder / "sow"
    file.write_text(sowing_text(1), encoding="utf-8")
    subject.engine.control(f"replay,sow={file},sow_s={SOW_S},sow_count={n_lines}{background}")


def _wait_for_output(subject: Subject) -> list[float]:
    """Ages in milliseconds at which rule lines were read from stdout; in a flood some are kept from there."""
    assert subject.output is not None
    public_log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    wait_for(lambda: OVER in tail_of(public_log), what="the last line", limit_s=LIMIT_S)
    time.sleep(SETTLE_S)
    return [_age_ms(at_ns, line) for at_ns, line in subject.output.kept_lines]


def _ask(subject: Subject) -> list[float]:
    """Ages in milliseconds at which the lines showed in `/api/logs`."""
    ages: list[float] = []
    public_log = Path(subject.daemon.environment["ARASUL_LOG_FILE"])
    since, end_s = 0, time.monotonic() + LIMIT_S
    with closing(http.client.HTTPConnection("127.0.0.1", subject.daemon.port, timeout=10)) as connection:
        while time.monotonic() < end_s:
            is_last = OVER in tail_of(public_log)
            connection.request("GET", f"/api/logs?outcome={OUTCOME}&lines=5000&since={since}")
            page = json.loads(connection.getresponse().read())
            now_ns = time.monotonic_ns()
            ages += (_age_ms(now_ns, line["text"].encode()) for line in page["lines"])
            since = page["next"]
            if is_last:
                return ages
            time.sleep(ASK_S)
    raise TimeoutError(f"the last line was not written within {LIMIT_S:g} s")


def _age_ms(now_ns: int, line: bytes) -> float:
    found = SOWN.search(line)
    assert found, line
    return (now_ns - int(found[2])) / 1e6
