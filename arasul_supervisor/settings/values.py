"""How the text of a setting is read. A refusal is a ValueError, with the reason where there is one beyond
what the kind of value allows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from arasul_supervisor.settings.places import is_program
from arasul_supervisor.settings.quoting import quoted

NO_LIMIT_BYTES: Final = 1 << 62
SMALLEST_SIZE_BYTES: Final = 1 << 10

_YES: Final = frozenset({"yes", "on", "true", "1"})
_NO: Final = frozenset({"no", "off", "false", "0"})
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}")
_DURATION_PART: Final = re.compile(rf"({_NUMBER.pattern})\s*(ms|s|m|h|d)\s*")
_SIZE: Final = re.compile(rf"({_NUMBER.pattern})\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# As Docker, systemd and supervisord count: 50M, 50MB and 50MiB are the same.
_UNIT_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LONGEST_S: Final = 315_360_000.0  # ten years

# Ollama's server panics at its start on any other origin [run 0.34.4].
_ENGINE_SCHEMES: Final = (
    "http://", "https://", "app://", "file://", "tauri://", "vscode-webview://", "vscode-file://",
    "chrome-extension://", "safari-extension://", "moz-extension://", "ms-browser-extension://",
)  # fmt: skip


def parse_whole(text: str, minimum: int, maximum: int) -> int:
    """A whole number within bounds, both allowed."""
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(within(int(text), minimum, maximum))


def within(number: float, minimum: float, maximum: float) -> float:
    """The number itself; ValueError when it lies outside."""
    if not minimum <= number <= maximum:
        raise ValueError
    return number


def parse_duration_s(text: str) -> float:
    """Seconds of a bare number or of a sum of parts with units; never negative."""
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _DURATION_PART.findall(text.lower())
    if not parts or _DURATION_PART.sub("", text.lower()):
        raise ValueError
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size_bytes(text: str) -> int:
    """Bytes of `512MiB`, `50M`, `1GiB` or a bare number; 0 stands for no limit, as in supervisord."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError
    number, unit_bytes = match[1], _UNIT_BYTES[match[2].lower()]
    size_bytes = int(number) * unit_bytes if number.isdigit() else round(float(number) * unit_bytes)
    if size_bytes == 0:
        return NO_LIMIT_BYTES
    return int(within(size_bytes, SMALLEST_SIZE_BYTES, NO_LIMIT_BYTES))


def parse_switch(text: str) -> bool:
    """yes/no, on/off, true/false, 1/0, in any case."""
    word = text.lower()
    if word not in _YES | _NO:
        raise ValueError
    return word in _YES


def parse_keep_alive_s(text: str) -> int:
    """Whole seconds; 0 unloads at once and anything negative keeps for ever."""
    magnitude = text.lstrip("+-")
    if len(text) - len(magnitude) > 1:
        raise ValueError
    seconds = within(parse_duration_s(magnitude), 0, LONGEST_S)
    if not seconds.is_integer():
        raise ValueError("the engine counts whole seconds")
    return -int(seconds) if text.startswith("-") else int(seconds)


def parse_fraction(text: str) -> float:
    """A share above 0, at most 1."""
    if not _NUMBER.fullmatch(text) or not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def parse_gpu_layers(text: str) -> int | None:
    """A number of layers; -1 means all that fit, as it does in Ollama, and so does leaving it unset."""
    layers = parse_whole(text, -1, (1 << 31) - 1)
    return None if layers == -1 else layers


def parse_engine_origins(text: str) -> str:
    """The list as Ollama wants it: no blanks, no empty entries, each with a known scheme or one `*`."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        stars = origin.count("*")
        if stars > 1 or not (stars or origin.startswith(_ENGINE_SCHEMES)):
            raise ValueError(f"the engine would panic at its start over {quoted(origin)}")
    if not origins:
        raise ValueError
    return ",".join(origins)


def parse_browser_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers send them: lower case, no path."""
    origins = tuple(origin.strip().rstrip("/").lower() for origin in text.split(",") if origin.strip())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{quoted(origin)} is no origin")
    return origins


def parse_program(text: str) -> Path:
    """An absolute path of a file that may be executed."""
    path = _absolute(text)
    if not os.path.exists(path):
        raise ValueError("there is no such file")
    if not is_program(path):
        raise ValueError("that cannot be executed")
    return path


def parse_file(text: str) -> Path:
    """An absolute path where a regular file lies, or may lie: rotation renames it, so no device will do."""
    path = _absolute(text)
    if text.endswith("/") or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueError("that is no regular file")
    return path


def parse_folder(text: str) -> Path:
    """An absolute path where a folder lies, or may lie."""
    path = _absolute(text)
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError("that is no folder")
    return path


def parse_existing_folder(text: str) -> Path:
    """An absolute path of a folder."""
    path = _absolute(text)
    if not os.path.isdir(path):
        raise ValueError("there is no such folder")
    return path


def _absolute(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError("the path must be absolute")
    return Path(text)
