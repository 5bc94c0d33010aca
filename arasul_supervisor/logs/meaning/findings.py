"""Makes events of the lines that mean something: one fault is one event, however many lines tell of it.

A plain value store, told the time. What it makes of a sequence of lines depends on nothing but their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.finding import (
    VAGUE,
    Finding,
    in_other_words,
    kept_lines,
    of_a_runner,
    says_more,
)
from arasul_supervisor.logs.meaning.outcomes import OUTCOMES

if TYPE_CHECKING:
    from arasul_supervisor.logs.meaning.classify import Match

KEPT_GENERATIONS: Final = 16
KEPT_FINDINGS: Final = 100  # per generation: their subjects are names that others choose
SUBJECTS: Final = ("model", "blob", "name", "path", "address", "device")

Key = tuple[str, str | None]

ONE_FAULT_S: Final = 10.0
"""So close follow the lines of one fault that name no model (0.24.0 prints them a hundred times a second)."""
REASON_S: Final = 60.0
"""So long a reason waits for its verdict; a load is given up after five minutes without progress at most."""
POLLS_S: Final = 180.0
"""What was not told again for so long has ended in between."""
KEPT_PORTS: Final = 100


@dataclass(frozen=True, slots=True)
class Told:
    """The event that a line tells of, and whether it is told for the first time, or by another name."""

    finding: Finding
    is_news: bool


@dataclass(slots=True)
class _Episode:
    """One run of a runner that went wrong: the key of its finding, and what stood there before."""

    key: Key
    before: Finding | None


class Findings:
    """What befell one generation of the engine."""

    def __init__(self) -> None:
        self.marks: set[str] = set()
        self._found: dict[Key, Finding] = {}
        self._episodes: dict[str | None, _Episode] = {}  # by model
        self._open_pulls: set[Key] = set()
        self._model_at: dict[str, str] = {}  # by the port of its runner
        self._loading: str | None = None
        self._reason: Finding | None = None
        self._seen_mono: dict[Key, tuple[float, float]] = {}  # first and last, of what has to last to count
        self._latest: Key | None = None
        self._killed_mono = -math.inf
        self._deaths_to_come = 0
        self._is_untold = False  # a death whose model is not known yet

    def add(self, match: Match, *, mono: float, at: float, lines: tuple[str, ...]) -> Told | None:
        """Takes one line in, with those that belong to it.

        :returns: the event that it tells of; None for a reason that waits, what counts for nothing, and a step, unless
            that names the model of a death met before
        """
        self._latest = None
        meaning = match.meaning
        if meaning.severity == "step":
            return self._step(match)
        if meaning.is_start and "listening" in self.marks:
            return None  # a model's own text, printed raw
        said = Finding(
            match.outcome,
            match.sentence,
            mono,
            at,
            subject=self._subject_of(match),
            fields=match.fields,
            lines=kept_lines(lines),
        )
        if self._reason and mono - self._reason.last_mono > REASON_S:
            self._reason = None
        if match.waits and said.outcome not in VAGUE:
            self._reason = said
            return None
        if match.waits and self._reason is None and not self._has_episode(said):
            return None
        if match.outcome == "model_unreadable" and self._is_told_by_a_load(said):
            return None
        if meaning.scope == "run":
            return self._of_a_run(said, is_last=match.ends)
        return self._alone(said) if self._has_lasted(said, meaning.lasts_s) else None

    def go_on(self, lines: tuple[str, ...]) -> None:
        """Adds lines to what the last call of `add` took in: the rest of a stack."""
        found = self._found.get(self._latest) if self._latest else None
        if found and self._latest:
            self._found[self._latest] = replace(found, lines=kept_lines((*found.lines, *lines)))

    def expect_deaths(self, mono: float, *, later: int) -> None:
        """We end runners: that is no fault, nor is it when Ollama meets so many of them dead at a later request."""
        self._killed_mono, self._deaths_to_come = mono, self._deaths_to_come + later

    def newest_first(self) -> tuple[Finding, ...]:
        """All that befell, the latest first."""
        return tuple(sorted(self._found.values(), key=lambda finding: finding.last_mono, reverse=True))

    def _step(self, match: Match) -> Told | None:
        self.marks.add(match.outcome)
        told = None
        if match.outcome == "loading":
            model = self._loading = match.fields["model"]
            self._model_at = {**dict(list(self._model_at.items())[-KEPT_PORTS:]), match.fields["port"]: model}
            self._reason = None
            nameless = self._episodes.pop(None, None)
            if nameless and model in self._episodes:
                self._withdraw(nameless)  # the same death, met by the request that loads the model anew
            elif nameless:
                self._close(nameless)
                told = self._found.get(nameless.key) if self._is_untold else None
            self._is_untold = False
            self._close(self._episodes.pop(model, None))
        elif match.outcome == "loaded":
            self._reason = None
            for key, found in self._found.items():
                if OUTCOMES[found.outcome].is_cured and found.subject in (self._loading, None):
                    self._found[key] = replace(found, is_cured=True)
            self._loading = None
        elif match.outcome == "downloading":
            blob = match.fields["blob"]
            self._open_pulls = {key for key in self._open_pulls if key[1] != blob}
        return Told(told, is_news=True) if told else None

    def _subject_of(self, match: Match) -> str | None:
        if match.meaning.scope == "run":
            return match.fields.get("model") or self._model_at.get(match.fields.get("port", ""))
        return next((match.fields[name] for name in SUBJECTS if name in match.fields), None)

    def _of_a_run(self, said: Finding, *, is_last: bool) -> Told | None:
        """Lines of one run are one event, until its model is loaded anew or the last word was said."""
        subject = self._model_of(said)
        episode = self._episodes.pop(subject, None) or self._episodes.pop(None, None)
        own_lines = said.lines
        said = self._with_reason(replace(said, subject=subject))
        known = self._found.get(episode.key) if episode else None
        if episode is None or known is None:
            if self._is_our_doing(said):
                self._reason = self._loading = None
                return None
            episode, is_news = self._open(said), True
            if subject is None and said.outcome == "runner_died" and self._episodes:
                is_news, self._is_untold = (
                    False,
                    True,
                )  # told already, if the model loaded next is one of these
        elif says_more(said, known):
            self._withdraw(episode)
            episode, is_news = self._open(in_other_words(known, said)), True
        else:
            self._withdraw(episode)
            same = of_a_runner(known) if known.outcome == "panic" != said.outcome else known
            more = replace(same, last_mono=said.last_mono, last_at=said.last_at, subject=subject)
            episode, is_news = self._open(replace(more, lines=kept_lines((*known.lines, *own_lines)))), False
        if is_last:
            self._reason = self._loading = None
        else:
            self._episodes[subject] = episode
        return Told(self._found[episode.key], is_news)

    def _is_our_doing(self, said: Finding) -> bool:
        """True for the death of a runner that we have ended."""
        if said.outcome not in ("runner_died", "load_failed"):
            return False
        if said.last_mono - self._killed_mono <= ONE_FAULT_S:
            return True
        if self._deaths_to_come and "killed" in said.fields.get("signal", ""):
            self._killed_mono, self._deaths_to_come = said.last_mono, self._deaths_to_come - 1
            return True
        return False

    def _model_of(self, said: Finding) -> str | None:
        """The model of a run: named, or being loaded, or else of the run that went wrong a moment ago."""
        if said.subject or self._loading or not self._episodes:
            return said.subject or self._loading
        latest, episode = next(reversed(self._episodes.items()))
        known = self._found.get(episode.key)
        return latest if known and said.last_mono - known.last_mono <= ONE_FAULT_S else None

    def _has_episode(self, said: Finding) -> bool:
        return None in self._episodes or self._model_of(said) in self._episodes

    def _with_reason(self, said: Finding) -> Finding:
        """The verdict in the words of the reason that waited for it."""
        reason = self._reason
        if reason is None or not says_more(reason, said):
            return said
        return replace(
            said,
            outcome=reason.outcome,
            sentence=reason.sentence,
            fields={**said.fields, **reason.fields},
            lines=kept_lines((*reason.lines, *said.lines)),
        )

    def _close(self, episode: _Episode | None) -> None:
        """A crash after which the server goes on was a runner's."""
        known = self._found.get(episode.key) if episode else None
        if episode and known and known.outcome == "panic":
            self._withdraw(episode)
            self._open(of_a_runner(known))

    def _has_lasted(self, said: Finding, lasts_s: float) -> bool:
        """False for what was met for the first time, or for the first time in a while."""
        if not lasts_s:
            return True
        now_mono, key = said.last_mono, (said.outcome, said.subject)
        self._seen_mono = {k: seen for k, seen in self._seen_mono.items() if now_mono - seen[1] <= POLLS_S}
        first_mono, _ = self._seen_mono.pop(key, (now_mono, now_mono))
        self._seen_mono[key] = (first_mono, now_mono)
        return now_mono - first_mono >= lasts_s

    def _is_told_by_a_load(self, said: Finding) -> bool:
        """A listing meets the file that a load has failed for; of a damaged one its line says no name."""
        return any(
            found.outcome in ("model_missing", "model_damaged")
            and found.counts_at(said.last_mono)
            and said.subject in (None, found.subject)
            for found in self._found.values()
        )

    def _alone(self, said: Finding) -> Told:
        key = (said.outcome, said.subject)
        scope, known = OUTCOMES[said.outcome].scope, self._found.get(key)
        is_one = scope == "engine" or key in self._open_pulls
        if known and is_one and known.counts_at(said.last_mono):  # else it had ended, and has come back
            self._found[key] = replace(known, last_mono=said.last_mono, last_at=said.last_at)
            return Told(self._found[key], is_news=False)
        if scope == "pull":
            self._open_pulls.add(key)
        return Told(self._found[self._open(said).key], is_news=True)

    def _open(self, said: Finding) -> _Episode:
        """Counts an event."""
        key = self._latest = (said.outcome, said.subject)
        before = self._found.pop(key, None)
        self._found[key] = replace(said, count=before.count + 1 if before else 1, is_cured=False)
        if len(self._found) > KEPT_FINDINGS:
            del self._found[min(self._found, key=lambda kept: self._found[kept].last_mono)]
            self._open_pulls &= self._found.keys()
            self._episodes = {of: kept for of, kept in self._episodes.items() if kept.key in self._found}
        return _Episode(key, before)

    def _withdraw(self, episode: _Episode) -> None:
        """Takes back what `_open` counted, to count it under another name."""
        if episode.before:
            self._found[episode.key] = episode.before
        else:
            self._found.pop(episode.key, None)
