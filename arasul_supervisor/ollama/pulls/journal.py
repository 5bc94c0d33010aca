"""What is kept of the pulls in the state folder, so that they go on after a restart of the daemon."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor.bounded import end_task, within
from arasul_supervisor.offload import Offload
from arasul_supervisor.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arasul_supervisor.event_log import EventLog

WRITE_S: Final = 5.0
# A caller waits for the journal no longer than this: a state folder that hangs must not keep models from being pulled.
NOTED_S: Final = 2.0
RETRY_S: Final = 2.0
_VERSION: Final = 1
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class PullRecord:
    """One pull as it is kept; the words of its state are those of JobState, `_at` are epoch seconds.

    `real` is the tag behind an alias, `real_was_there` whether it was installed before this pull, None until it was
    looked at: what must be removed at the end cannot be told afterwards.
    """

    id: str
    model: str
    real: str
    insecure: bool
    state: str
    created_at: float
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    total: int | None = None
    completed: int = 0
    layers: int | None = None
    error: str | None = None
    is_kept: bool = True
    real_was_there: bool | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Content:
    version: int
    pulls: tuple[PullRecord, ...]


@dataclass(frozen=True, slots=True)
class _RawContent:
    pulls: tuple[msgspec.Raw, ...]


class PullJournal:
    """Writes the newest state of all pulls, whole or not at all; a state that was overtaken is never written.

    A folder that cannot be written is told once: pulls work without it, and are forgotten with the daemon.
    """

    def __init__(self, path: Path, log: EventLog) -> None:
        self._path, self._log = path, log
        self._thread = Offload("pull-journal")
        self._newest: bytes | None = None
        self._writing: asyncio.Task[None] | None = None
        self._n_noted = self._n_tried = 0
        self._was_tried, self._has_news = asyncio.Event(), asyncio.Event()
        self._is_trouble_told = self._is_read = False
        self.is_kept = True
        """False since the last write failed."""

    async def read(self) -> tuple[PullRecord, ...]:
        """What the last life of the daemon left, oldest first; what cannot be read is told and set aside."""
        try:
            found = await self._thread.call(lambda: (_content_of(self._path),), timeout_s=WRITE_S)
        except (OSError, *_UNREADABLE) as error:
            await self._set_aside(str(error))
            return ()
        if found is None:
            self._tell_trouble(f"{self._path} was not read within {WRITE_S:g} s")
            return ()
        records, trouble = found[0]
        if trouble is not None:
            await self._set_aside(trouble)
        self._is_read = True
        return records

    async def _set_aside(self, trouble: str) -> None:
        self._log.error(
            "pull_journal_unread",
            path=str(self._path),
            error=trouble,
            decision="what cannot be read is set aside as pulls.json.unread; a pull that is asked for again goes on"
            " from its parts",
        )
        await self._thread.call(lambda: _set_aside(self._path), timeout_s=WRITE_S)
        self._is_read = True

    def note(self, records: Sequence[PullRecord]) -> None:
        """Have this written; returns at once. Nothing is before `read` has seen what this would replace."""
        if not self._is_read:
            return
        self._newest = msgspec.json.encode(_Content(_VERSION, tuple(records)))
        self._n_noted += 1
        self._has_news.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="pull-journal")

    async def noted(self) -> None:
        """Until all that was noted before is on disk, or could not be."""
        if self._n_tried >= self._n_noted:
            return
        try:
            await within(self._tried_from(self._n_noted), NOTED_S)
        except asyncio.TimeoutError:
            self._tell_trouble(f"{self._path} was not written within {NOTED_S:g} s")

    async def close(self) -> None:
        """Waits for the last write, within a bound."""
        await self.noted()
        if self._writing is not None:
            await end_task(self._writing)
        await self._thread.settle(timeout_s=0)

    async def _tried_from(self, n_noted: int) -> None:
        while self._n_tried < n_noted:
            self._was_tried.clear()
            await self._was_tried.wait()

    async def _write(self) -> None:
        """The newest content, until there is none newer; one that could not be written is tried again later."""
        while (content := self._newest) is not None:
            n_noted = self._n_noted
            trouble = await self._try_to_write(content)
            if trouble is None:
                self.is_kept, self._is_trouble_told = True, False
                if self._newest is content:
                    self._newest = None
            else:
                self._tell_trouble(trouble)
            self._n_tried = n_noted
            self._was_tried.set()
            if trouble is not None:
                if self._newest is content:
                    self._has_news.clear()
                with suppress(asyncio.TimeoutError):
                    await within(self._has_news.wait(), RETRY_S)

    async def _try_to_write(self, content: bytes) -> str | None:
        try:
            done = await self._thread.call(lambda: _replace(self._path, content), timeout_s=WRITE_S)
        except OSError as error:
            return f"{self._path} cannot be written: {error.strerror}"
        return None if done else f"{self._path} was not written within {WRITE_S:g} s"

    def _tell_trouble(self, what: str) -> None:
        self.is_kept = False
        if not self._is_trouble_told:
            self._is_trouble_told = True
            self._log.warning("pull_journal_trouble", sentence=f"{what}: pulls would not outlive the daemon.")


def _content_of(path: Path) -> tuple[tuple[PullRecord, ...], str | None]:
    """The pulls, and what was wrong with the first that is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return (), None
    records: list[PullRecord] = []
    trouble = None
    for raw in msgspec.json.decode(content, type=_RawContent).pulls:
        try:
            records.append(msgspec.json.decode(raw, type=PullRecord))
        except _UNREADABLE as error:
            trouble = trouble or str(error)
    return tuple(records), trouble


def _replace(path: Path, content: bytes) -> bool:
    """Also through a power cut."""
    write_whole(path, content, is_durable=True)
    return True


def _set_aside(path: Path) -> None:
    """A copy, so that what can be read of it stays until it is written anew; a folder in its place is moved."""
    aside = path.with_name(f"{path.name}.unread")
    try:
        if path.is_dir():
            path.rename(aside)
        else:
            shutil.copyfile(path, aside)
    except OSError:  # the next write replaces it
        return
