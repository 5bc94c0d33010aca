"""What can be done to a box, as values; nothing here does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A command; `sentence` says why it is run."""

    sentence: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class BuildVenv:
    """A virtual environment with the package of a checkout in it."""

    source: Path
    venv: Path
    python: Path

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"build {self.venv} from {self.source} with {self.python}"


@dataclass(frozen=True)
class CheckSettings:
    """A program of ours finds no fault with the settings, as the service's user."""

    program: Path
    user: str
    environment: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """What it does."""
        return "see that the settings are good"


@dataclass(frozen=True)
class Write:
    """A whole file; its folder is made."""

    path: Path
    text: str
    mode: int = 0o644

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"write {self.path}"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: Path
    target: Path

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True)
class Remove:
    """A file, a link or a whole folder goes, if it is there."""

    path: Path

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"remove {self.path}"


@dataclass(frozen=True)
class RemoveIfEmpty:
    """A folder goes, unless somebody else keeps something in it."""

    path: Path

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"remove {self.path} if nothing else is in it"


@dataclass(frozen=True)
class RequireWritable:
    """The service's user must be able to write in a folder.

    `if_absent` is the command that makes it, `if_closed` says what to do where it cannot be written;
    `is_bound`: the service reaches the folder without walking through its parents.
    """

    path: Path
    user: str
    if_absent: str
    if_closed: str
    is_bound: bool = False

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"see that {self.user} can write in {self.path}"


@dataclass(frozen=True)
class Start:
    """Start the service anew and wait until Ollama answers, or its first start has failed."""

    unit: str

    @property
    def sentence(self) -> str:
        """What it does."""
        return f"start {self.unit} and wait until Ollama answers"


Action = Run | BuildVenv | CheckSettings | Write | Link | Remove | RemoveIfEmpty | RequireWritable | Start


@dataclass(frozen=True)
class Plan:
    """Actions in their order, and what a person should know at the end."""

    actions: tuple[Action, ...]
    notes: tuple[str, ...] = ()
