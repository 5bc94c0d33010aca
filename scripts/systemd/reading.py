"""What systemd writes and reads, as this box tells it: settings, a service's variables, our own record."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from scripts.systemd.errors import CannotInstall


@dataclass(frozen=True)
class Record:
    """What an earlier install changed on the box, and chose for it."""

    disabled_ollama: bool = False
    made_user: bool = False
    user: str = ""  # as whom the service was installed
    venvs: tuple[str, ...] = ()  # names below the prefix

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(vars(self)) + "\n"


def read_record(path: Path) -> Record | None:
    """The record of an earlier install; None where the file is not there, or is not ours."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            disabled_ollama=bool(known["disabled_ollama"]),
            made_user=bool(known["made_user"]),
            user=str(known["user"]),
            venvs=tuple(Path(name).name for name in known["venvs"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_settings(path: Path) -> dict[str, str] | None:
    """The environment file; None where there is none.

    :raises CannotInstall: it is not UTF-8, and systemd would pass over such lines
    """
    try:
        return parse_settings(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CannotInstall(
            f"Line {line} of {path} is not UTF-8, and systemd would not take it. Write it anew."
        ) from error


def parse_settings(text: str) -> dict[str, str]:
    """An environment file as systemd reads it: comments, quotes; no expansion."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)=(.*?)\s*", line)
        if match:
            found[match[1]] = _unquoted(match[2])
    return found


def parse_shown_environment(text: str) -> dict[str, str]:
    """`OLLAMA_HOST=0.0.0.0 "OLLAMA_ORIGINS=a b"`, as `systemctl show -p Environment` prints it."""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', text)
    pairs = (_unquoted(word).partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return re.sub(r"\\(.)", r"\1", text)
