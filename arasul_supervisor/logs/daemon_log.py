"""The daemon's own log: events with fields, kept until the engine is spawned, then rendered by structlog."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.clock import rfc3339
from arasul_supervisor.logs.meaning.levels import RANK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.meaning.levels import Level
    from arasul_supervisor.logs.stdout import LogFormat, StdoutWriter

    Render = Callable[[MutableMapping[str, object]], str]

EARLY_EVENTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it was logged."""

    at: float
    level: Level
    event: str
    fields: Mapping[str, object]


class DaemonLog:
    """Takes events at any time. structlog costs 100 ms to import, so that happens in `start`, after the spawn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._early: deque[Entry] = deque(maxlen=EARLY_EVENTS)
        self._threshold = RANK["info"]
        self._render: Render | None = None
        self._writer: StdoutWriter | None = None

    @property
    def is_started(self) -> bool:
        """True once events are rendered as they come."""
        return self._render is not None

    def debug(self, event: str, **fields: object) -> None:
        """Logs a detail for who looks for a fault."""
        self._log("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Logs a step in the life of the engine."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Logs what somebody should look at."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Logs that something is lost."""
        self._log("error", event, fields)

    def exception(self, event: str, error: BaseException, **fields: object) -> None:
        """Logs an error that nobody expected, with its traceback."""
        import traceback  # not before the first spawn

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._log("error", event, {**fields, "error": repr(error), "traceback": "".join(lines)})

    def start(self, writer: StdoutWriter, *, log_format: LogFormat, level: Level) -> None:
        """Imports structlog and writes all that was kept, then each event as it comes."""
        self._writer = writer
        self._render = _renderer(log_format, writer)
        self._threshold = RANK[level]
        while self._early:
            self._write(self._early.popleft())

    def flush_plain(self) -> None:
        """Prints the kept warnings and errors on stderr: the daemon ends before its log could start."""
        while self._early:
            entry = self._early.popleft()
            if RANK[entry.level] >= RANK["warning"]:
                fields = "".join(f" {name}={_shown(value)}" for name, value in entry.fields.items())
                sys.stderr.write(f"{entry.level}: {entry.event}{fields}\n")

    def _log(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        entry = Entry(self._clock.wall(), level, event, fields)
        if self._render is None:
            self._early.append(entry)
        else:
            self._write(entry)

    def _write(self, entry: Entry) -> None:
        if self._render is None or self._writer is None or RANK[entry.level] < self._threshold:
            return
        record: dict[str, object] = {"at": rfc3339(entry.at), "source": "arasul", "level": entry.level}
        record["event"] = entry.event
        for name, value in entry.fields.items():
            record[name if name not in record else f"{name}_"] = _shown(value)
        self._writer.write(self._render(record), entry.level)


def _shown(value: object) -> object:
    """The value as it may be seen: JSON's own kinds as they are, all others as redacted text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _shown(part) for key, part in value.items()}
    from arasul_supervisor.logs.meaning.redaction import redact  # 3 ms, not before the first spawn

    return redact(str(value))


def _renderer(log_format: LogFormat, writer: StdoutWriter) -> Render:
    """Bends structlog's renderers to one call; nothing global of structlog's is configured."""
    import structlog

    if log_format == "json":
        as_json = structlog.processors.JSONRenderer(separators=(",", ":"))
        return lambda record: str(as_json(None, "", record))
    console = structlog.dev.ConsoleRenderer(colors=writer.is_terminal, pad_event_to=24, timestamp_key="at")

    def as_console(record: MutableMapping[str, object]) -> str:
        record.pop("source", None)
        if writer.has_priorities:  # the journal has its own time for each line
            record.pop("at", None)
        text = str(record.pop("traceback", "")).rstrip()
        line = str(console(None, "", record))
        return f"{line}\n{text}" if text else line

    return as_console
