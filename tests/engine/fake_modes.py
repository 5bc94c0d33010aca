"""What the fake engine was told to do: the grammar of FAKE_OLLAMA (see fake_ollama.py), the control file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mode:
    """One mode with its options, such as `crash,code=3,after_s=2`."""

    __slots__ = ("asked", "name", "options")

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        self.name = name
        self.options = options
        self.asked = 0

    def number(self, key: str, default: float) -> float:
        """The option as a number."""
        return float(self.options.get(key) or default)

    def text(self, key: str, default: str) -> str:
        """The option as a text."""
        return self.options.get(key, default)

    def fits(self, method: str, path: str) -> bool:
        """Whether this mode spoils the given request; counts the requests that match."""
        wanted = self.options.get("path")
        if wanted is None and path == "*" and self.name != "freeze":
            return False
        if wanted is not None and not path.startswith(wanted):
            return False
        if self.options.get("method", method) != method:
            return False
        self.asked += 1
        first = int(self.number("after", 0)) + 1
        return first <= self.asked < first + self.number("times", float("inf"))


def parse_life(text: str) -> tuple[Mode, ...]:
    """The modes of one life."""
    return tuple(_parse_mode(part.strip()) for part in text.split(";") if part.strip())


class Orders:
    """The modes in force: the control file's while it holds any, else those of this life."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._control = environ.get("FAKE_OLLAMA_CONTROL")
        self._control_text = ""
        self._of_control: tuple[Mode, ...] = ()
        self.life = _count_life(environ.get("FAKE_OLLAMA_LIVES"))
        lives = environ.get("FAKE_OLLAMA", "").split("|")
        self._of_life = parse_life(lives[min(self.life, len(lives)) - 1])

    def now(self) -> tuple[Mode, ...]:
        """All modes in force."""
        text = _read(self._control)
        if text != self._control_text:
            self._control_text, self._of_control = text, parse_life(text)
        return self._of_control if self._control_text.strip() else self._of_life

    def find(self, name: str) -> Mode | None:
        """The mode of that name, if it is in force."""
        return next((mode for mode in self.now() if mode.name == name), None)

    @property
    def has_control(self) -> bool:
        """Whether orders may change while running."""
        return self._control is not None


def _parse_mode(text: str) -> Mode:
    name, *pairs = text.split(",")
    options = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        options[key.strip()] = value.replace("%2C", ",").replace("%3B", ";").replace("%7C", "|")
    return Mode(name.strip(), options)


def _read(path: str | None) -> str:
    if path is None:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _count_life(path: str | None) -> int:
    if path is None:
        return 1
    with open(path, "a+", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
        file.flush()
        file.seek(0)
        return len(file.readlines())
