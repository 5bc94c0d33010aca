"""The incidents in the state folder: one JSON file each, the newest 200 of them, at most 4 MiB."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor.healing.incidents.incident import Incident, order_of
from arasul_supervisor.healing.incidents.state_file import reason_of
from arasul_supervisor.whole_file import FRESH_SUFFIX, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_INCIDENTS: Final = 200
MAX_BYTES: Final = 4 * 1024 * 1024
# Far above what one of ours can have: nothing else is read into memory.
MAX_FILE_BYTES: Final = 256 * 1024
SUFFIX: Final = ".json"
OWN_NAME: Final = re.compile(rf"\d{{8}}T\d{{6}}Z-\d{{1,6}}{re.escape(SUFFIX)}")
_UNREADABLE: Final = (OSError, ValueError, msgspec.MsgspecError, RecursionError)


@dataclass(frozen=True, slots=True)
class StoredIncidents:
    """What earlier lives left, oldest first; `troubles` has a clause for each file that is not among them."""

    incidents: tuple[Incident, ...]
    troubles: tuple[str, ...]


class IncidentStore:
    """Reads and writes the files. All of it blocks: for one thread at a time, away from the loop.

    A file is ours by its name: those go when there are too many, and nothing else is touched.
    """

    def __init__(
        self, folder: Path, *, max_incidents: int = MAX_INCIDENTS, max_bytes: int = MAX_BYTES
    ) -> None:
        self.folder = folder
        self._max_incidents, self._max_bytes = max_incidents, max_bytes
        self._sizes: dict[str, int] | None = None  # by file name, what may go first; None: not looked at yet

    def read(self) -> StoredIncidents:
        """All that can be read of the newest. Half-written files of a life that was cut short are removed.

        :raises OSError: the folder cannot be read
        """
        troubles = list(self._remove_half_written())
        self._sizes, foreign = self._look()
        troubles += foreign
        incidents: list[Incident] = []
        for name, size_bytes in list(self._sizes.items())[-self._max_incidents :]:
            try:
                incidents.append(self._incident_in(name, size_bytes))
            except _UNREADABLE as error:
                troubles.append(f"{name}: {reason_of(error)}")
        return StoredIncidents(tuple(incidents), tuple(troubles))

    def write(self, incident: Incident) -> None:
        """Keep it as it is now, and remove the oldest of too many.

        :raises OSError: the disk refuses
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self._sizes is None:
            self._sizes, _ = self._look()
        name, content = f"{incident.id}{SUFFIX}", msgspec.json.encode(incident)
        write_whole(self.folder / name, content)
        self._sizes.pop(name, None)
        self._sizes[name] = len(content)  # the last now, which stays
        self._make_room(self._sizes)

    def _look(self) -> tuple[dict[str, int], list[str]]:
        """The sizes of our files, oldest first, and what else lies there."""
        found: dict[str, int] = {}
        foreign: list[str] = []
        for entry in self._entries():
            if not OWN_NAME.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                if not entry.name.endswith(FRESH_SUFFIX):
                    foreign.append(f"{entry.name}: no incident")
                continue
            found[entry.name] = entry.stat(follow_symlinks=False).st_size
        by_age = sorted(found, key=lambda name: order_of(name.removesuffix(SUFFIX)))
        return {name: found[name] for name in by_age}, foreign

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                yield from entries
        except FileNotFoundError:
            return

    def _remove_half_written(self) -> Iterator[str]:
        for entry in list(self._entries()):
            if not OWN_NAME.fullmatch(entry.name.removesuffix(FRESH_SUFFIX)) or OWN_NAME.fullmatch(
                entry.name
            ):
                continue
            try:
                os.unlink(entry.path)
            except OSError as error:
                yield f"{entry.name}: half-written, and cannot be removed: {error.strerror}"

    def _incident_in(self, name: str, size_bytes: int) -> Incident:
        if size_bytes > MAX_FILE_BYTES:
            raise ValueError(f"{size_bytes} bytes are too many for an incident")
        incident = msgspec.json.decode((self.folder / name).read_bytes(), type=Incident)
        if f"{incident.id}{SUFFIX}" != name:
            raise ValueError("it tells of another incident than its name does")
        return incident

    def _make_room(self, sizes: dict[str, int]) -> None:
        for name in surplus(sizes, max_files=self._max_incidents, max_bytes=self._max_bytes):
            (self.folder / name).unlink(missing_ok=True)
            del sizes[name]


def surplus(sizes: Mapping[str, int], *, max_files: int, max_bytes: int) -> tuple[str, ...]:
    """The first of these that must go so that the rest is within both bounds; the last stays. Pure."""
    n_files, n_bytes, gone = len(sizes), sum(sizes.values()), []
    for name, size_bytes in list(sizes.items())[:-1]:
        if n_files <= max_files and n_bytes <= max_bytes:
            break
        gone.append(name)
        n_files, n_bytes = n_files - 1, n_bytes - size_bytes
    return tuple(gone)
