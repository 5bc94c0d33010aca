"""What befalls the raw log, in sentences: what is wrong now, and what happened once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MOST_TOLD: Final = 16
"""Sentences remembered, so as not to say them twice: each names a file, and each generation has its own."""
ELSEWHERE: Final = "Set ARASUL_STATE_DIR to a folder on ext4, XFS, btrfs or tmpfs."


class SpoolTrouble:
    """Collects what is to be said: standing troubles, and notices, each of which is given once for a file."""

    def __init__(self) -> None:
        self.unreadable: str | None = None
        """Why nothing can be read now."""
        self.stuck: str | None = None
        """Why what was read cannot be given back to the disk."""
        self._notices: list[str] = []
        self._told: deque[str] = deque(maxlen=MOST_TOLD)

    def is_unreadable(self, path: Path, error: OSError) -> None:
        """Reading failed, now."""
        self.unreadable = (
            f"The raw log {path} cannot be read: {error.strerror}. The engine runs on, but its lines are missing; "
            "give the daemon its file back, or restart the engine."
        )

    def was_passed_over(self, path: Path, error: OSError) -> None:
        """Its turn came, and it could not be opened."""
        self._tell(
            f"The raw log {path} cannot be read: {error.strerror}. Its lines are missing in the public log."
        )

    def is_stuck(self, path: Path, error: OSError) -> None:
        """It can be neither punched nor emptied."""
        self.stuck = (
            f"What was read of the raw log {path} cannot be freed: {error.strerror}. "
            f"It grows until the engine is started again. {ELSEWHERE}"
        )

    def was_emptied(self, path: Path) -> None:
        """It cannot be punched, was read to its end, and emptied."""
        self._tell(
            f"The file system of the raw log {path} cannot free what was read of it, so the file is emptied when it is "
            f"large; a line that the engine writes at that very moment is lost. {ELSEWHERE}"
        )

    def was_emptied_unread(self, path: Path) -> None:
        """It cannot be punched, and its reader never came to its end."""
        self._tell(
            f"The raw log {path} was emptied before all of it was read: its file system cannot free what was read, "
            f"and the engine writes too fast. {ELSEWHERE}"
        )

    def was_truncated(self, path: Path) -> None:
        """It is smaller than what was read of it."""
        self._tell(f"The raw log {path} was truncated by somebody; what was not read by then is missing.")

    def was_removed(self, path: Path) -> None:
        """Its name is gone, or leads to another file."""
        self._tell(
            f"The raw log {path} was removed by somebody. It is read on until its engine ends; "
            "if the daemon is killed before, what it has not read is lost."
        )

    def lacks_beginning(self, path: Path) -> None:
        """Another life freed more of it than it could note."""
        self._tell(
            f"The raw log {path} lacks its beginning, and how far it was copied is not noted: lines may be missing."
        )

    def take_notices(self) -> list[str]:
        """The sentences since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.append(sentence)
            self._notices.append(sentence)
