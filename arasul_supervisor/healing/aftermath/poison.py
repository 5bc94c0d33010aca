"""Which model kills the engine: suspected at each crash, and convicted by two of them (facts/ollama.md §7 row 21)."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from arasul_supervisor.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arasul_supervisor.supervision.snapshot import ExitReport

# How many of a generation's last lines to look through: a dump of goroutines has 334, a load 208 (§2.2, §6.1).
TAIL_LINES: Final = 2_000
FRESH_LOAD_S: Final = 60.0
# A load that is older has been met by a look, if it is one; its end may have been said in words that we do not know.
UNSEEN_S: Final = 10.0
CRASHES: Final = 2
WITHIN_S: Final = 3600.0
GOOD_RUN_S: Final = 600.0
# Two looks further apart than this prove nothing of the time between them.
LONGEST_GAP_S: Final = 10.0

_FATAL_SIGNALS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
)
_BEHIND_A_SHELL: Final = 128
_GO_CRASH: Final = 2
_WHY_CHARS: Final = 120
# time=2026-11-23T22:13:40.782Z level=INFO source=server.go:433 msg="starting runner" cmd="/usr/bin/ollama runner
#   --model /models/blobs/sha256-d43b… --port 40423"; ≥ 0.30: msg="starting llama-server"
_START: Final = re.compile(
    r'time=(\S+) level=\S+ source=\S+ msg="starting (?:runner|llama-server)" cmd=".*?'
    r' --model .*?/sha256-([0-9a-f]{64})(?: .*)?"'
)
# msg="llama runner started in 0.28 seconds", msg="Load failed" model=… error="…"
_LOAD_OVER: Final = re.compile(
    r'time=\S+ level=\S+ source=\S+ msg="(?:llama runner started|llama-server started|Load failed|'
    r"failed to create server|llama runner terminated|llama-server terminated)"
)
# panic: runtime error: index out of range [0] with length 0 / SIGSEGV: segmentation violation / SIGQUIT: quit
_GO_END: Final = re.compile(r"(panic|fatal error|SIG[A-Z]+): .*")


@dataclass(frozen=True, slots=True)
class Load:
    """The last load that an engine's lines tell of. `is_under_way`: they tell neither its success nor its failure."""

    blob: str
    at: float
    is_under_way: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation ended, with what is needed to see whether a model did it.

    `lines`: its last, oldest first. `loading`, `active`: weights, see `AtDeath`.
    """

    report: ExitReport
    lines: Sequence[str] = ()
    loading: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The weights that one crash speaks against. `how` tells how it ended, `doing` what they were doing."""

    blob: str
    how: str
    doing: str


@dataclass(frozen=True, slots=True)
class Conviction:
    """Weights that killed the engine, so often within an hour; `times` tells when and how, as a clause."""

    blob: str
    crashes: int
    times: str

    def reason_for(self, names: Sequence[str]) -> str:
        """One sentence, for the models that have these weights."""
        who = ", ".join(names) or f"A model of unknown name ({self.blob[:19]}…)"
        return f"{who} made Ollama crash {self.crashes} times within an hour: {self.times}."


@dataclass(frozen=True, slots=True)
class _Crash:
    mono: float
    words: str


class CrashBook:
    """Keeps the crashes of the last hour by suspect. Pure: it is told everything."""

    def __init__(self) -> None:
        self._crashes: dict[str, list[_Crash]] = {}
        self._good_s: dict[str, float] = {}
        self._looked_mono: float | None = None

    def saw_loaded(self, blobs: Iterable[str], *, now_mono: float) -> None:
        """One look at a living engine: who has lain loaded in memory for 10 minutes without a break is cleared."""
        passed_s = 0.0 if self._looked_mono is None else min(now_mono - self._looked_mono, LONGEST_GAP_S)
        self._looked_mono = now_mono
        self._good_s = {
            blob: self._good_s[blob] + passed_s if blob in self._good_s else 0.0 for blob in blobs
        }
        for blob, good_s in self._good_s.items():
            if good_s >= GOOD_RUN_S:
                self._crashes.pop(blob, None)

    def note(self, ending: Ending, *, died_mono: float) -> Conviction | None:
        """One end of the engine; the conviction, once two within an hour speak against the same weights."""
        self._good_s, self._looked_mono = {}, None
        found = suspicion(ending)
        if found is None:
            return None
        known = [crash for crash in self._crashes.get(found.blob, []) if died_mono - crash.mono <= WITHIN_S]
        words = f"at {rfc3339(ending.report.at)} while it {found.doing} ({found.how})"
        crashes = [*known, _Crash(died_mono, words)]
        self._crashes[found.blob] = crashes
        if len(crashes) < CRASHES:
            return None
        del self._crashes[found.blob]  # whoever lifts the quarantine gives it two new ones
        return Conviction(found.blob, len(crashes), " and ".join(crash.words for crash in crashes))


def suspicion(ending: Ending) -> Suspicion | None:
    """Against which weights this end speaks; None where no model can be the cause, or none more than another."""
    how = how_a_model_may_have(ending)
    if how is None:
        return None
    load = last_load(ending.lines)
    if load is None:
        (alone,) = ending.loading if len(ending.loading) == 1 else (None,)
        return Suspicion(alone, how, "was being loaded") if alone else None
    age_s = max(0.0, ending.report.at - load.at)
    if load.is_under_way and (age_s <= UNSEEN_S or load.blob in ending.loading):
        return Suspicion(load.blob, how, "was being loaded")
    if age_s <= FRESH_LOAD_S and ending.active == {load.blob}:
        return Suspicion(load.blob, how, f"was at work, {age_s:.0f} s after its load began")
    return None


def can_be_a_models_doing(report: ExitReport) -> bool:
    """False for an end of which no line needs to be read: no model causes such a one."""
    if report.was_asked:
        return False
    return report.is_oom_kill or report.code == _GO_CRASH or _fatal_signal(report) is not None


def how_a_model_may_have(ending: Ending) -> str | None:
    """The way of an end that a model can be the cause of, in words; None for every other end.

    SIGQUIT makes Go dump its stacks and exit with 2 as a panic does, and is somebody's wish (§2.2).
    """
    report = ending.report
    if not can_be_a_models_doing(report):
        return None
    if report.is_oom_kill:
        return "ended by the kernel's out-of-memory killer"
    number = _fatal_signal(report)
    if number is not None:
        return f"ended by {number.name}"
    said = next((line for line in reversed(ending.lines) if _GO_END.match(line)), None)
    return None if said is None or said.startswith("SIGQUIT") else f"exit code 2, {said[:_WHY_CHARS]}"


def last_load(lines: Sequence[str]) -> Load | None:
    """The last start of a runner with weights; None where the lines tell of none."""
    is_over = False
    for line in reversed(lines):
        start = _START.match(line)
        at = _instant(start[1]) if start else None
        if start and at is not None:
            return Load(f"sha256:{start[2]}", at, not is_over)
        is_over = is_over or _LOAD_OVER.match(line) is not None
    return None


def _fatal_signal(report: ExitReport) -> signal.Signals | None:
    """The signal that ended it, also behind a wrapper script, where a fault of the program sends it."""
    number = report.signal or max(0, (report.code or 0) - _BEHIND_A_SHELL)
    return next((one for one in _FATAL_SIGNALS if one == number), None)


def _instant(text: str) -> float | None:
    """Epoch seconds of `2026-11-23T22:13:40.782Z`, also with a local offset."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
