"""How loud a line of the engine's log is, as it says itself; pure."""

from __future__ import annotations

import re
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]

LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")
RANK: Final = {level: rank for rank, level in enumerate(LEVELS)}

COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
SPOKEN: Final = re.compile(
    # time=… level=WARN source=…                   (a custom level is written DEBUG-4, ERROR+2)
    r"time=\S+ level=(?P<slog>[A-Z]+)"
    # [GIN] 2026/11/23 - 07:32:49 | 200 |  63.314µs | 127.0.0.1 | GET "/api/version"
    r"|\[GIN\] [^|]*\| +(?P<status>\d{3}) \|"
    # 2026/11/23 07:39:30 config.go:51: WARN invalid port, using default port=99999
    r"|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:\S+: )?(?P<early>DEBUG|INFO|WARN|ERROR) "
    r"|(?P<debug>\[GIN-debug\])"
    r"|(?P<fatal>Error: |panic: |fatal error: |(?:\S+ \S+ )?\[Recovery\] )"
)
NAMES: Final[dict[str, Level]] = {
    "TRACE": "debug",
    "DEBUG": "debug",
    "INFO": "info",
    "WARN": "warning",
    "ERROR": "error",
}


def parse_level(text: str) -> Level:
    """The level that the line itself gives; `info` for the many lines that give none."""
    said = SPOKEN.match(without_colours(text))
    if said is None:
        return "info"
    if said["status"]:
        return {"4": "warning", "5": "error"}.get(said["status"][0], "info")  # type: ignore[return-value]  # literals
    if said["fatal"]:
        return "error"
    if said["debug"]:
        return "debug"
    return NAMES.get(said["slog"] or said["early"], "info")


def without_colours(text: str) -> str:
    """The line without the terminal colours that Go's recovery and gin put into it."""
    return COLOUR.sub("", text) if "\x1b" in text else text
