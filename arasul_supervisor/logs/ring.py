"""Keeps the engine's recent lines as the bytes they came in, and decodes those that somebody asks for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.logs.meaning.levels import RANK, parse_level
from arasul_supervisor.logs.meaning.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.logs.meaning.classify import Match
    from arasul_supervisor.logs.meaning.levels import Level

RING_BYTES: Final = 4 * 1024 * 1024
TELLING_LINES: Final = 500  # of those with an outcome: in a flood the others are gone within the second


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the engine, redacted. `at` is when it was read, in seconds since the epoch."""

    seq: int
    at: float
    generation: int
    level: Level
    outcome: str | None
    text: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, oldest first; `next` is the `since` that continues; `dropped` lines came and went in between.

    None: an unknown number of them, for the daemon was started anew.
    """

    lines: tuple[LogLine, ...]
    next: int
    dropped: int | None


@dataclass(frozen=True, slots=True)
class LogBlock:
    """Lines that were read together: `data` is redacted and ends with a newline, `matches` goes by index in it."""

    first_seq: int
    at: float
    generation: int
    data: bytes
    n_lines: int
    matches: Mapping[int, Match]

    def texts(self) -> list[str]:
        """The decoded lines, without their ends."""
        return [line.decode(errors="replace") for line in self.data.split(b"\n")[:-1]]

    def level_of(self, index: int, text: str) -> Level:
        """The louder of what the line says and what its outcome means: Ollama logs a failed load as INFO."""
        level = parse_level(text)
        match = self.matches.get(index)
        if match and not match.waits and match.meaning.severity in ("warning", "error"):
            said: Level = "error" if match.meaning.severity == "error" else "warning"
            return max(level, said, key=RANK.__getitem__)
        return level

    def outcome_of(self, index: int) -> str | None:
        """A reason that waits for its verdict tells of nothing yet: a healthy load may print it."""
        match = self.matches.get(index)
        return match.outcome if match and not match.waits else None

    def lines(self) -> Iterator[LogLine]:
        """Each line with all that is known of it."""
        for index, text in enumerate(self.texts()):
            yield LogLine(
                self.first_seq + index,
                self.at,
                self.generation,
                self.level_of(index, text),
                self.outcome_of(index),
                text,
            )

    def telling_lines(self) -> Iterator[LogLine]:
        """Those of its lines that tell of more than a step of a healthy life."""
        raw = self._split_if_telling()
        for index, match in self.matches.items():
            if match.is_telling:
                text = raw[index].decode(errors="replace")
                level = self.level_of(index, text)
                yield LogLine(self.first_seq + index, self.at, self.generation, level, match.outcome, text)

    def only_telling(self) -> LogBlock:
        """The same without the lines that tell of nothing; their numbers are not those of the log any more."""
        raw = self._split_if_telling()
        told = [(raw[index], match) for index, match in self.matches.items() if match.is_telling]
        data = b"".join(line + b"\n" for line, _ in told)
        matches = {index: match for index, (_, match) in enumerate(told)}
        return LogBlock(self.first_seq, self.at, self.generation, data, len(told), matches)

    def _split_if_telling(self) -> list[bytes]:
        return self.data.split(b"\n") if any(match.is_telling for match in self.matches.values()) else []

    def outcomes(self) -> set[str]:
        """What its lines tell of."""
        return {match.outcome for match in self.matches.values() if not match.waits}


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Which lines are asked for; None asks for all. `level` means this loud or louder."""

    level: Level | None = None
    outcome: str | None = None
    generation: int | None = None

    def may_pass(self, block: LogBlock) -> bool:
        """False when no line of the block can pass, told without decoding it."""
        if self.generation not in (None, block.generation):
            return False
        return self.outcome is None or self.outcome in block.outcomes()

    def passes(self, line: LogLine) -> bool:
        """True for a line that is asked for."""
        return (
            self.outcome in (None, line.outcome)
            and self.generation in (None, line.generation)
            and (self.level is None or RANK[line.level] >= RANK[self.level])
        )


class Ring:
    """The last lines, at least `limit_lines` of them unless they exceed `limit_bytes`."""

    def __init__(self, *, limit_lines: int, limit_bytes: int = RING_BYTES, first_seq: int = 0) -> None:
        """Begin empty.

        :param first_seq: of the first line, beyond all of earlier lives: then a `seq` tells of which life it is
        """
        self._limit_lines = limit_lines
        self._limit_bytes = limit_bytes
        self._blocks: deque[LogBlock] = deque()
        self._telling: deque[LogLine] = deque(maxlen=TELLING_LINES)  # older than the blocks
        self._n_lines = self._n_bytes = 0
        self._n_forgotten, self._forgotten_to = 0, first_seq  # of those with an outcome
        self._first_seq = self.next_seq = first_seq

    def append(self, block: LogBlock) -> None:
        """Takes a block in and lets the oldest go."""
        self._blocks.append(block)
        self.next_seq = block.first_seq + block.n_lines
        self._n_lines += block.n_lines
        self._n_bytes += len(block.data)
        while self._is_over(self._blocks[0]):
            oldest = self._blocks.popleft()
            self._remember(oldest)
            self._n_lines -= oldest.n_lines
            self._n_bytes -= len(oldest.data)

    def latest(self, count: int, wanted: LineFilter) -> LogPage:
        """The newest lines that are asked for."""
        chosen: deque[LogLine] = deque()
        next_seq = self.next_seq
        blocks = self._held(next_seq)
        for block in reversed(blocks):
            if len(chosen) >= count:
                break
            if wanted.may_pass(block):
                passing = [line for line in block.lines() if wanted.passes(line)]
                chosen.extendleft(reversed(passing[-(count - len(chosen)) :]))
        older = self._older(wanted, blocks)
        chosen.extendleft(reversed(older[max(0, len(older) - count + len(chosen)) :]))
        return LogPage(tuple(chosen), next_seq, 0)

    def since(self, since: float, count: int, wanted: LineFilter) -> LogPage:
        """The oldest lines from a `seq` (int) or an instant (float) on; `next` continues without a gap.

        A seq that is not of this life of the daemon, but for 0: everything is new to its holder, and nobody knows how
        much is missing in between.
        """
        next_seq = self.next_seq
        blocks = self._held(next_seq)
        is_seq = isinstance(since, int)
        is_foreign = is_seq and since > 0 and not self._first_seq <= since <= next_seq
        if is_seq and (is_foreign or since == 0):
            since = self._first_seq
        first_seq = int(since) if is_seq else 0
        oldest_seq = blocks[0].first_seq if blocks else next_seq
        dropped = None if is_foreign else self._dropped(first_seq, wanted, oldest_seq) if is_seq else 0
        older = self._older(wanted, blocks)
        chosen = [line for line in older if (line.seq if is_seq else line.at) >= since][:count]
        if chosen and len(chosen) == count:
            return LogPage(tuple(chosen), chosen[-1].seq + 1, dropped)
        for block in blocks:
            is_before = block.first_seq + block.n_lines <= first_seq if is_seq else block.at < since
            if is_before or not wanted.may_pass(block):
                continue
            for line in block.lines():
                if line.seq >= first_seq and wanted.passes(line):
                    if len(chosen) == count:
                        return LogPage(tuple(chosen), line.seq, dropped)
                    chosen.append(line)
        return LogPage(tuple(chosen), next_seq, dropped)

    def _older(self, wanted: LineFilter, blocks: list[LogBlock]) -> list[LogLine]:
        """Lines from before the blocks: who asks for an outcome gets them, though others between them are gone."""
        if wanted.outcome is None or not blocks:
            return []
        end = blocks[0].first_seq  # a block may have gone over to the telling lines since these were held
        return [line for line in list(self._telling) if line.seq < end and wanted.passes(line)]

    def _remember(self, block: LogBlock) -> None:
        """Keeps what matters of a block that goes."""
        for line in block.telling_lines():
            if len(self._telling) == TELLING_LINES:
                self._n_forgotten, self._forgotten_to = self._n_forgotten + 1, self._telling[0].seq + 1
            self._telling.append(line)

    def _dropped(self, first_seq: int, wanted: LineFilter, oldest_seq: int) -> int:
        """How many of those that are asked for may have gone; a step of a healthy life goes like any other line."""
        if wanted.outcome and OUTCOMES[wanted.outcome].severity != "step":
            return self._n_forgotten if first_seq < self._forgotten_to else 0
        return max(0, oldest_seq - first_seq)

    def _held(self, end_seq: int) -> list[LogBlock]:
        """The blocks up to there: a page may be made in a thread while the loop appends."""
        return [block for block in list(self._blocks) if block.first_seq < end_seq]

    def _is_over(self, oldest: LogBlock) -> bool:
        if len(self._blocks) == 1:
            return False
        return self._n_bytes > self._limit_bytes or self._n_lines - oldest.n_lines >= self._limit_lines
