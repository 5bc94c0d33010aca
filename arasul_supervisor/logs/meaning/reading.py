"""Reads the engine's lines for what befell it, generation by generation, and tells the daemon's log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.findings import KEPT_GENERATIONS, Findings
from arasul_supervisor.logs.meaning.screen import Between, Screened, screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.logs.meaning.finding import Finding

TELL_AGAIN_S: Final = 60.0  # a queue that stays full refuses hundreds of requests each second


class Reading:
    """The findings of each generation, and where its text was left. Told the time; does nothing but by `tell`."""

    def __init__(self, tell: Callable[[int, Finding], None]) -> None:
        """Begin with nothing read.

        :param tell: called for each warning and error of a generation that befell, at most once a minute for the same
        """
        self._tell = tell
        self._findings: dict[int, Findings] = {}
        self._between = Between()
        self._generation: int | None = None
        self._ending: int | None = None
        self._told_mono: dict[tuple[int, str, str | None, str], float] = {}

    def begin(self, generation: int) -> None:
        """A generation whose outcomes count. Those of others are shown, and forgotten."""
        self._findings[generation] = Findings()
        while len(self._findings) > KEPT_GENERATIONS:
            del self._findings[min(self._findings)]
        self._told_mono = {key: at for key, at in self._told_mono.items() if key[0] in self._findings}

    def expect_end(self, generation: int) -> None:
        """We end this generation: the runners that die with it, and the loads that fail, are no fault."""
        self._ending = generation

    def expect_runner_deaths(self, generation: int, *, mono: float, later: int) -> None:
        """We end runners of this generation, and Ollama may meet so many of them dead at a later request."""
        if generation in self._findings:
            self._findings[generation].expect_deaths(mono, later=later)

    def left_private(self, generation: int) -> bool:
        """True while the text of this generation was left amid what nobody may see."""
        return self._before(generation).is_private

    def go_on(self, generation: int, *, is_private: bool) -> None:
        """Another life of the daemon has read up to here."""
        self._generation, self._between = generation, Between(is_private)

    def peek(self, generation: int, block: bytes) -> Screened:
        """What comes next of a generation, as it may be shown; moves nothing."""
        return screen(block, self._before(generation))

    def read(self, generation: int, block: bytes, *, at: float, mono: float) -> Screened:
        """Takes the next block of lines in."""
        screened = screen(block, self._before(generation))
        self._generation, self._between = generation, screened.after
        if generation == self._ending and screened.matches:
            others = {n: match for n, match in screened.matches.items() if match.meaning.scope != "run"}
            screened = replace(screened, matches=others)
        found = self._findings.get(generation)
        if found and screened.lines:
            found.go_on(screened.lines.get(-1, ()))
            matches = {}
            for index, match in screened.matches.items():
                told = found.add(match, mono=mono, at=at, lines=screened.lines[index])
                if told and told.is_news and told.finding.severity in ("warning", "error"):
                    self._tell_once(generation, told.finding)
                if match.meaning.severity == "step":
                    matches[index] = match
                elif told:
                    matches[index] = replace(match, outcome=told.finding.outcome, waits=False)
            screened = replace(screened, matches=matches)  # a line is shown as what it was found to tell
        return screened

    def findings(self, generation: int) -> tuple[Finding, ...]:
        """What befell this generation, the latest first."""
        found = self._findings.get(generation)
        return found.newest_first() if found else ()

    def marks(self, generation: int) -> frozenset[str]:
        """The steps of a healthy life seen in this generation: running_on_gpu, running_on_cpu, loaded, …"""
        found = self._findings.get(generation)
        return frozenset(found.marks) if found else frozenset()

    def _before(self, generation: int) -> Between:
        return self._between if generation == self._generation else Between()

    def _tell_once(self, generation: int, befell: Finding) -> None:
        key = (generation, befell.outcome, befell.subject, befell.sentence)
        told_mono = self._told_mono.get(key)
        now_mono = befell.last_mono
        if told_mono is None or now_mono - told_mono >= TELL_AGAIN_S:
            lately = {k: told for k, told in self._told_mono.items() if now_mono - told < TELL_AGAIN_S}
            self._told_mono = {**lately, key: now_mono}
            self._tell(generation, befell)


def texts_of(data: bytes) -> tuple[str, ...]:
    """The decoded lines of a block, without their ends."""
    return tuple(line.decode(errors="replace") for line in data.split(b"\n")[:-1])
